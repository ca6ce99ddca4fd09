{{ config(materialized='incremental') }}

with ratings as (
    select
        {{ reporting_day('responded_at') }} as date_day,
        company_name,
        category,
        rating
    from {{ ref('fct_project_survey_ratings') }}
    where
        {{ is_visible('company_name') }}
        {% if is_incremental() %} and {{ is_near_pending_day('responded_at') }} {% endif %}
),

summed as (
    select
        date_day,
        company_name as company,
        category,
        {{ sum_ratings() }}
    from ratings
    group by date_day, company_name, category
)

select
    date_day,
    company,
    category,
    count_ratings,
    sum_ratings,
    {{ average_rating('sum_ratings', 'count_ratings') }} as average_rating
from summed
