with responses as (
    select * from {{ ref('stg_smileback__prj_responses') }}
),

ratings as (
    select
        * exclude (ratings),
        unnest(ratings) as answer,
        unnest(range(1, len(ratings) + 1)) as place
    from responses
)

select
    response_id || '/' || place as rating_id,
    response_id,
    {{ reporting_day('responded_at') }} as response_day,
    survey_name,
    answer.question as category,
    answer.rating,
    answer.seq_number,
    company_name,
    project_name,
    project_phase,
    project_phase_status,
    project_status,
    comment,
    contact_first_name,
    contact_last_name,
    contact_email,
    contact_remote_id,
    is_published,
    has_marketing_permissions,
    has_google_redirect,
    responded_at
from ratings
where answer.rating is not null
