with source as (
    select * from {{ source('replica', 'reviews') }}
),

renamed as (
    select
        id as review_id,
        rating,
        comment,
        status,
        tags,
        permalink,
        has_marketing_permission,

        ticket_id,
        ticket_title,
        ticket_segment_id as board_id,
        ticket_segment_name as board_name,
        ticket_agents as agents,

        contact_id,
        contact_name,
        contact_email,

        company_id,
        company_name,
        company_territory_name,
        company_market_name,

        ticket_closed_on,
        viewed_on,
        rated_on,
        last_modified,
        -- The instants that decide on which day a review counts.
        case when rating is not null then coalesce(rated_on, last_modified, ticket_closed_on) end as rated_at,
        coalesce(ticket_closed_on, rated_on, last_modified) as response_at
    from source
)

select * from renamed
