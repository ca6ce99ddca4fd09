with answered as (
    {% for mart in ['csat_daily', 'csat_response_daily', 'nps_daily', 'project_survey_daily'] -%}
    select date_day from {{ ref(mart) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

days as (
    select
        cast(unnest(generate_series(min(date_day), max(date_day), interval 1 day)) as date) as date_day,
        max(date_day) as last_day
    from answered
)

select
    date_day,
    cast(date_trunc('week', date_day) as date) as week_start,
    cast(date_trunc('month', date_day) as date) as month_start,
    cast(date_trunc('quarter', date_day) as date) as quarter_start,
    cast(date_trunc('year', date_day) as date) as year_start,
    cast(isoyear(date_day) as integer) as iso_year,
    cast(week(date_day) as integer) as iso_week,
    cast(isodow(date_day) as integer) as day_of_week,
    dayname(date_day) as day_name,
    isodow(date_day) >= 6 as is_weekend,
    cast(last_day - date_day as integer) as days_ago
from days
