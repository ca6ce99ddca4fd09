with source as (
    select * from {{ source('replica', 'csat_companies') }}
),

renamed as (
    select
        id as company_id,
        name as company_name
    from source
)

select * from renamed
