with source as (
    select * from {{ source('replica', 'nps_campaigns') }}
),

renamed as (
    select
        id as campaign_id,
        {{ blank_to_null('name') }} as campaign_name
    from source
)

select * from renamed
