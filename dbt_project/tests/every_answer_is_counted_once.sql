-- A day that was forgotten, or filled twice, shows in the totals: days may shift answers, but must not lose or
-- repeat any. Members are compared with the answers that name one.
{% set members = ['board', 'company', 'contact'] %}

with reviews as (
    select
        count(*) as count_reviews,
        count(rating) as count_rated,
        sum(rating) as sum_ratings,
        {%- for member in members %}
        count(*) filter (where {{ is_visible(member ~ '_id') }}) as {{ member }}_reviews,
        count(rating) filter (where {{ is_visible(member ~ '_id') }}) as {{ member }}_rated{{ "," if not loop.last }}
        {%- endfor %}
    from {{ ref('stg_smileback__reviews') }}
),

compared as (
    select
        'ratings in csat_daily' as claim,
        (select count_rated from reviews) as expected,
        (select sum(count_ratings) from {{ ref('csat_daily') }}) as actual
    union all
    select
        'balance of ratings in csat_daily' as claim,
        (select sum_ratings from reviews) as expected,
        (select sum(count_positive - count_negative) from {{ ref('csat_daily') }}) as actual
    union all
    select
        'reviews in csat_response_daily' as claim,
        (select count_reviews from reviews) as expected,
        (select sum(count_reviews) from {{ ref('csat_response_daily') }}) as actual
    union all
    select
        'rated reviews in csat_response_daily' as claim,
        (select count_rated from reviews) as expected,
        (select sum(count_rated) from {{ ref('csat_response_daily') }}) as actual
    {%- for member in members %}
    union all
    select
        'ratings by {{ member }}' as claim,
        (select {{ member }}_rated from reviews) as expected,
        (
            select sum(count_ratings) from {{ ref('int_csat_by_member_daily') }}
            where dimension = '{{ member }}'
        ) as actual
    union all
    select
        'reviews by {{ member }}' as claim,
        (select {{ member }}_reviews from reviews) as expected,
        (
            select sum(count_reviews) from {{ ref('int_csat_response_by_member_daily') }}
            where dimension = '{{ member }}'
        ) as actual
    {%- endfor %}
    union all
    select
        'responses in nps_daily' as claim,
        (select count(*) from {{ ref('fct_nps_responses') }}) as expected,
        (select sum(count_responses) from {{ ref('nps_daily') }}) as actual
    union all
    select
        'ratings in project_survey_daily' as claim,
        (select count(*) from {{ ref('fct_project_survey_ratings') }}) as expected,
        (select sum(count_ratings) from {{ ref('project_survey_daily') }}) as actual
    union all
    select
        'sum of ratings in project_survey_daily' as claim,
        (select sum(rating) from {{ ref('fct_project_survey_ratings') }}) as expected,
        (select sum(sum_ratings) from {{ ref('project_survey_daily') }}) as actual
)

select
    claim,
    expected,
    actual
from compared
where coalesce(expected, 0) != coalesce(actual, 0)
