{{ config(materialized='incremental') }}

with responses as (
    select
        {{ reporting_day('created_at') }} as date_day,
        campaign_name,
        company_name,
        respondent_type
    from {{ ref('fct_nps_responses') }}
    {% if is_incremental() %} where {{ is_near_pending_day('created_at') }} {% endif %}
),

members as (
    select
        date_day,
        'campaign' as dimension,
        campaign_name as member,
        respondent_type
    from responses
    union all
    select
        date_day,
        'company' as dimension,
        company_name as member,
        respondent_type
    from responses
),

counted as (
    select
        date_day,
        dimension,
        member,
        {{ count_respondents() }}
    from members
    where {{ is_visible('member') }}
    group by date_day, dimension, member
)

select
    date_day,
    dimension,
    member,
    count_responses,
    count_promoters,
    count_passives,
    count_detractors,
    {{ nps('count_promoters', 'count_detractors', 'count_responses') }} as nps
from counted
