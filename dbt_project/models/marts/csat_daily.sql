{{ config(materialized='incremental', tags=['daily']) }}

with ratings as (
    select
        {{ reporting_day('rated_at') }} as date_day,
        rating
    from {{ ref('fct_csat_reviews') }}
    where
        rating is not null
        {% if is_incremental() %} and {{ is_on_pending_day('rated_at') }} {% endif %}
),

counted as (
    select
        date_day,
        {{ count_ratings() }}
    from ratings
    group by date_day
)

select
    date_day,
    count_ratings,
    count_positive,
    count_neutral,
    count_negative,
    {{ net_csat('count_positive', 'count_negative', 'count_ratings') }} as net_csat
from counted
