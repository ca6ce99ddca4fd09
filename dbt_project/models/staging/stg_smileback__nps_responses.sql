with source as (
    select * from {{ source('replica', 'nps_responses') }}
),

renamed as (
    select
        id as response_id,
        score,
        comment,
        campaign_name,
        contact_company as company_name,
        contact_id,
        contact_first_name,
        contact_last_name,
        contact_email,
        contact_title,
        contact_location,
        contact_remote_id,
        has_marketing_permission,
        created_at
    from source
)

select * from renamed
