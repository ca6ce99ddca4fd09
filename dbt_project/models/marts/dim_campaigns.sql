with listed as (
    select
        campaign_name as campaign,
        list(campaign_id order by campaign_id) as campaign_ids
    from {{ ref('stg_smileback__nps_campaigns') }}
    where {{ is_visible('campaign_name') }}
    group by campaign_name
),

in_responses as (
    select
        campaign_name as campaign,
        min(response_day) as first_response_day,
        max(response_day) as last_response_day
    from {{ ref('fct_nps_responses') }}
    where {{ is_visible('campaign_name') }}
    group by campaign_name
)

select
    coalesce(listed.campaign, in_responses.campaign) as campaign,
    listed.campaign_ids,
    in_responses.first_response_day,
    in_responses.last_response_day
from listed
full join in_responses on listed.campaign = in_responses.campaign
