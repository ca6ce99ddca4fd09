{{ config(materialized='view') }}

{%- set csat %}
    'net_csat' as metric,
    date_day,
    count_ratings as count_answers,
    count_positive,
    count_neutral,
    count_negative,
    cast(null as bigint) as sum_ratings,
    cast(null as varchar) as category,
{%- endset %}
{%- set response %}
    'response_rate' as metric,
    date_day,
    count_reviews as count_answers,
    count_rated as count_positive,
    cast(null as bigint) as count_neutral,
    cast(null as bigint) as count_negative,
    cast(null as bigint) as sum_ratings,
    cast(null as varchar) as category,
{%- endset %}
{%- set nps %}
    'nps' as metric,
    date_day,
    count_responses as count_answers,
    count_promoters as count_positive,
    count_passives as count_neutral,
    count_detractors as count_negative,
    cast(null as bigint) as sum_ratings,
    cast(null as varchar) as category,
{%- endset %}
{%- set project %}
    'project_survey_score' as metric,
    date_day,
    count_ratings as count_answers,
    cast(null as bigint) as count_positive,
    cast(null as bigint) as count_neutral,
    cast(null as bigint) as count_negative,
    sum_ratings,
    category,
{%- endset %}

select
    {{- csat }}
    'all' as dimension,
    'all' as member
from {{ ref('csat_daily') }}
union all
select
    {{- csat }}
    dimension,
    member
from {{ ref('csat_by_member_daily') }}
union all
select
    {{- response }}
    'all' as dimension,
    'all' as member
from {{ ref('csat_response_daily') }}
union all
select
    {{- response }}
    dimension,
    member
from {{ ref('csat_response_by_member_daily') }}
union all
select
    {{- nps }}
    'all' as dimension,
    'all' as member
from {{ ref('nps_daily') }}
union all
select
    {{- nps }}
    dimension,
    member
from {{ ref('nps_by_member_daily') }}
union all
select
    {{- project }}
    'all' as dimension,
    'all' as member
from {{ ref('project_survey_daily') }}
union all
select
    {{- project }}
    'survey' as dimension,
    survey_name as member
from {{ ref('project_survey_daily') }}
where {{ is_visible('survey_name') }}
union all
select
    {{- project }}
    'category' as dimension,
    category as member
from {{ ref('project_survey_daily') }}
where {{ is_visible('category') }}
union all
select
    {{- project }}
    'company' as dimension,
    company as member
from {{ ref('project_survey_by_company_daily') }}
