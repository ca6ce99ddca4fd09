-- Beside every score stand the counts that it is made of, parts of one whole: that keeps it in its range.
select
    'csat_daily' as mart,
    date_day
from {{ ref('csat_daily') }}
where count_ratings = 0 or count_ratings != count_positive + count_neutral + count_negative
union all
select
    'csat_response_daily' as mart,
    date_day
from {{ ref('csat_response_daily') }}
where count_reviews = 0 or count_reviews < count_rated
union all
select
    'nps_daily' as mart,
    date_day
from {{ ref('nps_daily') }}
where count_responses = 0 or count_responses != count_promoters + count_passives + count_detractors
union all
select
    'project_survey_daily' as mart,
    date_day
from {{ ref('project_survey_daily') }}
where count_ratings = 0 or sum_ratings not between count_ratings and 5 * count_ratings
