with responses as (
    select
        campaign_name as campaign,
        company_name as company,
        respondent_type
    from {{ ref('fct_nps_responses') }}
    where {{ is_visible('campaign_name') }}
),

members as (
    select
        campaign,
        respondent_type,
        'all' as dimension,
        'all' as member
    from responses
    union all
    select
        campaign,
        respondent_type,
        'company' as dimension,
        company as member
    from responses
    where {{ is_visible('company') }}
),

answers as (
    select
        'nps' as metric,
        campaign,
        dimension,
        member,
        null as category,
        count(*) as count_answers,
        count(*) filter (where respondent_type = 'promoter') as count_positive,
        count(*) filter (where respondent_type = 'passive') as count_neutral,
        count(*) filter (where respondent_type = 'detractor') as count_negative,
        null as sum_ratings
    from members
    group by campaign, dimension, member
),

scored as (
    {{ scored('answers', ['metric', 'campaign', 'dimension', 'member']) }}
),

in_order as (
    select
        scored.campaign,
        campaigns.first_response_day,
        scored.dimension,
        scored.member,
        scored.count_responses,
        scored.count_positive as count_promoters,
        scored.count_neutral as count_passives,
        scored.count_negative as count_detractors,
        scored.value as nps,
        scored.value_low as nps_low,
        scored.value_high as nps_high,
        scored.is_small_sample,
        lag(scored.campaign) over answered as campaign_before,
        lag(scored.count_responses) over answered as count_responses_before,
        lag(scored.value) over answered as nps_before,
        lag(scored.value_low) over answered as nps_before_low,
        lag(scored.value_high) over answered as nps_before_high
    from scored
    inner join {{ ref('dim_campaigns') }} as campaigns on scored.campaign = campaigns.campaign
    window answered as (
        partition by scored.dimension, scored.member
        order by campaigns.first_response_day, scored.campaign
    )
)

select
    campaign,
    first_response_day,
    dimension,
    member,
    count_responses,
    count_promoters,
    count_passives,
    count_detractors,
    nps,
    nps_low,
    nps_high,
    is_small_sample,
    campaign_before,
    count_responses_before,
    nps_before,
    nps - nps_before as nps_change,
    {{ difference_low('nps', 'nps_before') }} as nps_change_low,
    {{ difference_high('nps', 'nps_before') }} as nps_change_high
from in_order
