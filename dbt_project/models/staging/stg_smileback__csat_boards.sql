with source as (
    select * from {{ source('replica', 'csat_boards') }}
),

renamed as (
    select
        id as board_id,
        name as board_name
    from source
)

select * from renamed
