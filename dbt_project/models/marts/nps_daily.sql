{{ config(materialized='incremental', tags=['daily']) }}

with responses as (
    select
        {{ reporting_day('created_at') }} as date_day,
        respondent_type
    from {{ ref('fct_nps_responses') }}
    {% if is_incremental() %} where {{ is_near_pending_day('created_at') }} {% endif %}
),

counted as (
    select
        date_day,
        {{ count_respondents() }}
    from responses
    group by date_day
)

select
    date_day,
    count_responses,
    count_promoters,
    count_passives,
    count_detractors,
    {{ nps('count_promoters', 'count_detractors', 'count_responses') }} as nps
from counted
