with responses as (
    select * from {{ ref('stg_smileback__nps_responses') }}
)

select
    response_id,
    {{ reporting_day('created_at') }} as response_day,
    score,
    case
        when score >= 9 then 'promoter'
        when score >= 7 then 'passive'
        else 'detractor'
    end as respondent_type,
    comment,
    campaign_name,
    company_name,
    contact_id,
    contact_first_name,
    contact_last_name,
    contact_email,
    contact_title,
    contact_location,
    contact_remote_id,
    has_marketing_permission,
    created_at
from responses
