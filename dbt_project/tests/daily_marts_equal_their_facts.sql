-- Computed day by day over years of late changes, the daily marts are what the facts say as a whole now.
with recomputed as (
    select
        'csat_daily' as mart,
        rated_day as date_day,
        count(*) as answers,
        sum(rating) as total
    from {{ ref('fct_csat_reviews') }}
    where rating is not null
    group by rated_day
    union all
    select
        'csat_response_daily' as mart,
        response_day as date_day,
        count(*) as answers,
        count(rating) as total
    from {{ ref('fct_csat_reviews') }}
    group by response_day
    union all
    select
        'nps_daily' as mart,
        response_day as date_day,
        count(*) as answers,
        count(*) filter (where score >= 9) - count(*) filter (where score <= 6) as total
    from {{ ref('fct_nps_responses') }}
    group by response_day
    union all
    select
        'project_survey_daily' as mart,
        response_day as date_day,
        count(*) as answers,
        sum(rating) as total
    from {{ ref('fct_project_survey_ratings') }}
    group by response_day
),

built as (
    select
        'csat_daily' as mart,
        date_day,
        count_ratings as answers,
        count_positive - count_negative as total
    from {{ ref('csat_daily') }}
    union all
    select
        'csat_response_daily' as mart,
        date_day,
        count_reviews as answers,
        count_rated as total
    from {{ ref('csat_response_daily') }}
    union all
    select
        'nps_daily' as mart,
        date_day,
        count_responses as answers,
        count_promoters - count_detractors as total
    from {{ ref('nps_daily') }}
    union all
    select
        'project_survey_daily' as mart,
        date_day,
        sum(count_ratings) as answers,
        sum(sum_ratings) as total
    from {{ ref('project_survey_daily') }}
    group by date_day
)

(
    select * from recomputed
    except all
    select * from built
)
union all
(
    select * from built
    except all
    select * from recomputed
)
