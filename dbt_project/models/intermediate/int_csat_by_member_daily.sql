{% set dimensions = ['board', 'company', 'contact'] %}

with ratings as not materialized (
    select
        {{ reporting_day('rated_at') }} as date_day,
        rating,
        agents,
        board_id,
        company_id,
        contact_id
    from {{ ref('fct_csat_reviews') }}
    where
        rating is not null
        {% if is_incremental() %} and {{ is_on_pending_day('rated_at') }} {% endif %}
),

members as (
    select
        date_day,
        'agent' as dimension,
        unnest(agents) as member_id,
        rating
    from ratings
    {%- for dimension in dimensions %}
    union all
    select
        date_day,
        '{{ dimension }}' as dimension,
        {{ dimension }}_id as member_id,
        rating
    from ratings
    where {{ dimension }}_id is not null
    {%- endfor %}
)

select
    date_day,
    dimension,
    member_id,
    {{ count_ratings() }}
from members
group by date_day, dimension, member_id
