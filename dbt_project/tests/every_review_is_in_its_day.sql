-- No review is forgotten between the replica and its day: not by a filter, nor by a day that was not rebuilt.
{{ config(meta={'dagster': {'ref': {'name': 'csat_response_daily'}}}) }}

with replicated as (
    select
        count(*) as count_reviews,
        count(rating) as count_rated
    from {{ source('replica', 'reviews') }}
),

built as (
    select
        coalesce(sum(count_reviews), 0) as count_reviews,
        coalesce(sum(count_rated), 0) as count_rated
    from {{ ref('csat_response_daily') }}
)

select
    replicated.count_reviews as reviews_replicated,
    built.count_reviews as reviews_in_days,
    replicated.count_rated as ratings_replicated,
    built.count_rated as ratings_in_days
from replicated
cross join built
where replicated.count_reviews != built.count_reviews or replicated.count_rated != built.count_rated
