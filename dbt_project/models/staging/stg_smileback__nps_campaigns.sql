with source as (
    select * from {{ source('replica', 'nps_campaigns') }}
),

renamed as (
    select
        id as campaign_id,
        name as campaign_name
    from source
)

select * from renamed
