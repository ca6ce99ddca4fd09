{% set dimensions = ['board', 'company', 'contact'] %}

with reviews as not materialized (
    select
        {{ reporting_day('response_at') }} as date_day,
        rating,
        agents,
        board_id,
        company_id,
        contact_id
    from {{ ref('fct_csat_reviews') }}
    {% if is_incremental() %} where {{ is_on_pending_day('response_at') }} {% endif %}
),

members as (
    select
        date_day,
        'agent' as dimension,
        unnest(agents) as member_id,
        rating
    from reviews
    {%- for dimension in dimensions %}
    union all
    select
        date_day,
        '{{ dimension }}' as dimension,
        {{ dimension }}_id as member_id,
        rating
    from reviews
    where {{ dimension }}_id is not null
    {%- endfor %}
)

select
    date_day,
    dimension,
    member_id,
    {{ count_reviews() }}
from members
group by date_day, dimension, member_id
