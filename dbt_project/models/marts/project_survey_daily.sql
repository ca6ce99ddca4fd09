{{ config(materialized='incremental', tags=['daily']) }}

with ratings as (
    select
        {{ reporting_day('responded_at') }} as date_day,
        survey_name,
        category,
        rating
    from {{ ref('fct_project_survey_ratings') }}
    {% if is_incremental() %} where {{ is_near_pending_day('responded_at') }} {% endif %}
),

summed as (
    select
        date_day,
        survey_name,
        category,
        {{ sum_ratings() }}
    from ratings
    group by date_day, survey_name, category
)

select
    date_day,
    survey_name,
    category,
    count_ratings,
    sum_ratings,
    {{ average_rating('sum_ratings', 'count_ratings') }} as average_rating
from summed
