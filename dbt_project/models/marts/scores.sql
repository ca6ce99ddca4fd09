with grains as (
    select unnest(['day', 'week', 'month', 'quarter', 'year', 'all']) as grain
),

answers as not materialized (
    select
        metric,
        grain,
        -- The slice of one period: its start, none for all time.
        cast(date_trunc(nullif(grain, 'all'), date_day) as date) as period_start,
        dimension,
        member,
        category,
        count_answers,
        count_positive,
        count_neutral,
        count_negative,
        sum_ratings
    from {{ ref('int_answers_daily') }}
    cross join grains
)

{{ scored('answers', ['metric', 'grain', 'period_start', 'dimension', 'member']) }}
