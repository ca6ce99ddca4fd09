with source as (
    select * from {{ source('replica', 'prj_responses') }}
),

renamed as (
    select
        id as response_id,
        ratings,
        comment,
        survey_name,
        project_name,
        project_company as company_name,
        project_phase,
        project_phase_status,
        project_status,
        contact_first_name,
        contact_last_name,
        contact_email,
        contact_remote_id,
        is_published,
        has_marketing_permissions,
        has_google_redirect,
        date as responded_at
    from source
)

select * from renamed
