{{ config(materialized='incremental', tags=['daily']) }}

with reviews as (
    select
        {{ reporting_day('response_at') }} as date_day,
        rating
    from {{ ref('fct_csat_reviews') }}
    {% if is_incremental() %} where {{ is_on_pending_day('response_at') }} {% endif %}
),

counted as (
    select
        date_day,
        {{ count_reviews() }}
    from reviews
    group by date_day
)

select
    date_day,
    count_reviews,
    count_rated,
    {{ response_rate('count_rated', 'count_reviews') }} as response_rate
from counted
