with source as (
    select * from {{ source('replica', 'prj_surveys') }}
),

renamed as (
    select
        id as survey_id,
        name as survey_name
    from source
)

select * from renamed
