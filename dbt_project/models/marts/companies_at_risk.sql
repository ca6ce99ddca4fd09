with companies as (
    select
        member,
        metric,
        count_responses,
        count_negative,
        value,
        count_responses_before,
        value_before,
        value_change,
        value_change_high
    from {{ ref('scores_rolling') }}
    where
        days_ago = 0
        and window_days = 90
        and dimension = 'company'
        and metric in ('net_csat', 'nps')
),

compared as (
    select
        member as company,
        {% for metric, prefix in [('net_csat', 'csat'), ('nps', 'nps')] -%}
        {% for column in [
            'count_responses', 'count_negative', 'value', 'count_responses_before', 'value_before', 'value_change'
        ] -%}
        any_value({{ column }}) filter (where metric = '{{ metric }}') as {{ prefix }}_{{ column }},
        {% endfor -%}
        -- Somebody was unhappy, and it was better before.
        coalesce(
            bool_or(metric = '{{ metric }}' and count_negative > 0 and coalesce(value_change, -1) < 0),
            false
        ) as is_{{ prefix }}_at_risk,
        {% endfor -%}
        coalesce(bool_or(value_change_high < 0), false) as is_fall_clear
    from companies
    group by member
),

open_negatives as (
    select
        companies.member as company,
        count(*) as count_open_negative
    from {{ ref('fct_csat_reviews') }} as reviews
    inner join {{ ref('dim_companies') }} as companies on reviews.company_id = companies.company_id
    where reviews.rating = -1 and reviews.status = 'open'
    group by companies.member
)

select
    compared.company,
    compared.is_csat_at_risk,
    compared.is_nps_at_risk,
    compared.is_fall_clear,
    coalesce(open_negatives.count_open_negative, 0) as count_open_negative,
    compared.csat_count_responses as count_ratings,
    compared.csat_count_negative as count_negative,
    compared.csat_value as net_csat,
    compared.csat_count_responses_before as count_ratings_before,
    compared.csat_value_before as net_csat_before,
    compared.csat_value_change as net_csat_change,
    compared.nps_count_responses as count_responses,
    compared.nps_count_negative as count_detractors,
    compared.nps_value as nps,
    compared.nps_count_responses_before as count_responses_before,
    compared.nps_value_before as nps_before,
    compared.nps_value_change as nps_change
from compared
left join open_negatives on compared.company = open_negatives.company
where compared.is_csat_at_risk or compared.is_nps_at_risk
