{#- The slice of one period: its start (none for all time), from the grain and the day. -#}
{% set period_start = "cast(date_trunc(nullif(grain, 'all'), date_day) as date)" %}

with grains as (
    select unnest(['day', 'week', 'month', 'quarter', 'year', 'all']) as grain
),

csat as (
    select
        date_day,
        'all' as dimension,
        'all' as member,
        count_ratings,
        count_positive,
        count_negative
    from {{ ref('csat_daily') }}
    union all
    select
        date_day,
        dimension,
        member,
        count_ratings,
        count_positive,
        count_negative
    from {{ ref('csat_by_member_daily') }}
),

csat_response as (
    select
        date_day,
        'all' as dimension,
        'all' as member,
        count_reviews,
        count_rated
    from {{ ref('csat_response_daily') }}
    union all
    select
        date_day,
        dimension,
        member,
        count_reviews,
        count_rated
    from {{ ref('csat_response_by_member_daily') }}
),

nps as (
    select
        date_day,
        'all' as dimension,
        'all' as member,
        count_responses,
        count_promoters,
        count_detractors
    from {{ ref('nps_daily') }}
    union all
    select
        date_day,
        dimension,
        member,
        count_responses,
        count_promoters,
        count_detractors
    from {{ ref('nps_by_member_daily') }}
),

project_survey as (
    select
        date_day,
        'all' as dimension,
        'all' as member,
        category,
        count_ratings,
        sum_ratings
    from {{ ref('project_survey_daily') }}
    union all
    select
        date_day,
        'survey' as dimension,
        survey_name as member,
        category,
        count_ratings,
        sum_ratings
    from {{ ref('project_survey_daily') }}
    where {{ is_visible('survey_name') }}
    union all
    select
        date_day,
        'category' as dimension,
        category as member,
        category,
        count_ratings,
        sum_ratings
    from {{ ref('project_survey_daily') }}
    where {{ is_visible('category') }}
    union all
    select
        date_day,
        'company' as dimension,
        company as member,
        category,
        count_ratings,
        sum_ratings
    from {{ ref('project_survey_by_company_daily') }}
),

-- The score of a slice is the mean of its categories' means, however many ratings each has.
project_survey_categories as (
    select
        grain,
        {{ period_start }} as period_start,
        dimension,
        member,
        category,
        sum(count_ratings) as count_ratings,
        {{ average_rating('sum(sum_ratings)', 'sum(count_ratings)') }} as average_rating
    from project_survey
    cross join grains
    group by grain, period_start, dimension, member, category
),

all_scores as (
    select
        'net_csat' as metric,
        grain,
        {{ period_start }} as period_start,
        dimension,
        member,
        sum(count_ratings) as count_responses,
        {{ net_csat('sum(count_positive)', 'sum(count_negative)', 'sum(count_ratings)') }} as value
    from csat
    cross join grains
    group by grain, period_start, dimension, member
    union all
    select
        'response_rate' as metric,
        grain,
        {{ period_start }} as period_start,
        dimension,
        member,
        sum(count_reviews) as count_responses,
        {{ response_rate('sum(count_rated)', 'sum(count_reviews)') }} as value
    from csat_response
    cross join grains
    group by grain, period_start, dimension, member
    union all
    select
        'nps' as metric,
        grain,
        {{ period_start }} as period_start,
        dimension,
        member,
        sum(count_responses) as count_responses,
        {{ nps('sum(count_promoters)', 'sum(count_detractors)', 'sum(count_responses)') }} as value
    from nps
    cross join grains
    group by grain, period_start, dimension, member
    union all
    select
        'project_survey_score' as metric,
        grain,
        period_start,
        dimension,
        member,
        sum(count_ratings) as count_responses,
        avg(average_rating) as value
    from project_survey_categories
    group by grain, period_start, dimension, member
)

select
    metric,
    grain,
    period_start,
    dimension,
    member,
    cast(count_responses as bigint) as count_responses,
    cast(value as double) as value
from all_scores
