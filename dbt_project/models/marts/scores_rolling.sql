{%- set keys = ['metric', 'window_days', 'date_day', 'days_ago', 'dimension', 'member'] -%}

with lengths as (
    select unnest([30, 90]) as window_days
),

-- Every answer counts in the windows that end within so many days from its own on, and after that in those
-- before them.
answers as not materialized (
    select
        answered.metric,
        lengths.window_days,
        calendar.date_day,
        calendar.days_ago,
        answered.dimension,
        answered.member,
        answered.date_day <= calendar.date_day - lengths.window_days as is_before,
        answered.category,
        answered.count_answers,
        answered.count_positive,
        answered.count_neutral,
        answered.count_negative,
        answered.sum_ratings
    from {{ ref('dim_days') }} as calendar
    cross join lengths
    inner join {{ ref('int_answers_daily') }} as answered
        on answered.date_day between calendar.date_day - 2 * lengths.window_days + 1 and calendar.date_day
),

scored as not materialized (
    {{ scored('answers', keys + ['is_before']) }}
),

present as (
    select *
    from scored
    where not is_before
),

past as (
    select *
    from scored
    where is_before
)

select
    {% for key in keys -%}
    present.{{ key }},
    {% endfor -%}
    present.count_responses,
    present.value,
    present.value_low,
    present.value_high,
    present.is_small_sample,
    present.count_positive,
    present.count_neutral,
    present.count_negative,
    present.csat_percent,
    present.csat_percent_low,
    present.csat_percent_high,
    past.count_responses as count_responses_before,
    past.value as value_before,
    past.count_negative as count_negative_before,
    present.value - past.value as value_change,
    {{ difference_low('present.value', 'past.value') }} as value_change_low,
    {{ difference_high('present.value', 'past.value') }} as value_change_high
from present
left join past
    on
        present.metric = past.metric
        and present.window_days = past.window_days
        and present.date_day = past.date_day
        -- Says nothing new, but lets a filter on it reach both sides.
        and present.days_ago = past.days_ago
        and present.dimension = past.dimension
        and present.member = past.member
