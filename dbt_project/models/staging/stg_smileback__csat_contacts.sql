with source as (
    select * from {{ source('replica', 'csat_contacts') }}
),

renamed as (
    select
        id as contact_id,
        name as contact_name
    from source
)

select * from renamed
