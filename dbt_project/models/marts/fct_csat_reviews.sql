with reviews as (
    select * from {{ ref('stg_smileback__reviews') }}
)

select
    review_id,
    {{ reporting_day('rated_at') }} as rated_day,
    {{ reporting_day('response_at') }} as response_day,
    rating,
    comment,
    status,
    {{ distinct_names('agents') }} as agents,
    board_id,
    board_name,
    company_id,
    company_name,
    company_territory_name,
    company_market_name,
    contact_id,
    contact_name,
    contact_email,
    ticket_id,
    ticket_title,
    tags,
    has_marketing_permission,
    permalink,
    ticket_closed_on,
    viewed_on,
    rated_on,
    last_modified,
    rated_at,
    response_at,
    case
        when rated_on >= ticket_closed_on then epoch_us(rated_on - ticket_closed_on) / 3600e6
    end as hours_to_rating
from reviews
