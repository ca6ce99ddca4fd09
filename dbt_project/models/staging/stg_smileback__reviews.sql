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
        {{ blank_to_null('ticket_segment_id') }} as board_id,
        {{ blank_to_null('ticket_segment_name') }} as board_name,
        -- The same name twice on one ticket is one agent; spelling is left alone.
        list_distinct(list_filter(ticket_agents, lambda agent: {{ is_visible('agent') }})) as agents,

        {{ blank_to_null('contact_id') }} as contact_id,
        {{ blank_to_null('contact_name') }} as contact_name,
        {{ blank_to_null('contact_email') }} as contact_email,

        {{ blank_to_null('company_id') }} as company_id,
        {{ blank_to_null('company_name') }} as company_name,
        {{ blank_to_null('company_territory_name') }} as company_territory_name,
        {{ blank_to_null('company_market_name') }} as company_market_name,

        ticket_closed_on,
        viewed_on,
        rated_on,
        last_modified,
        -- The instants that decide on which day a review counts.
        case when rating is not null then coalesce(rated_on, last_modified) end as rated_at,
        coalesce(ticket_closed_on, rated_on, last_modified) as response_at
    from source
)

select * from renamed
