with source as (
    select * from {{ source('replica', 'csat_agents') }}
),

renamed as (
    select
        id as agent_id,
        name as agent_name
    from source
)

select * from renamed
