with listed as (
    select
        survey_name as survey,
        list(survey_id order by survey_id) as survey_ids
    from {{ ref('stg_smileback__prj_surveys') }}
    where {{ is_visible('survey_name') }}
    group by survey_name
),

in_responses as (
    select distinct survey_name as survey
    from {{ ref('stg_smileback__prj_responses') }}
    where {{ is_visible('survey_name') }}
)

select
    coalesce(listed.survey, in_responses.survey) as survey,
    listed.survey_ids
from listed
full join in_responses on listed.survey = in_responses.survey
