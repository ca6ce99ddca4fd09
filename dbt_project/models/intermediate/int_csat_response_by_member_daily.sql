-- The few reviews of pending days are sieved out once for all dimensions; years of history are rather read
-- again by each of them than held in memory.
with reviews as {{ 'materialized' if is_incremental() else 'not materialized' }} (
    select
        response_at,
        rating,
        agents,
        board_id,
        company_id,
        contact_id
    from {{ ref('stg_smileback__reviews') }}
    {% if is_incremental() %} where {{ is_on_pending_day('response_at') }} {% endif %}
),

agent_reviews as (
    select
        response_at,
        rating,
        unnest(list_distinct(agents)) as agent_id
    from reviews
)

{% for dimension in ['agent', 'board', 'company', 'contact'] -%}
select
    {{ reporting_day('response_at') }} as date_day,
    '{{ dimension }}' as dimension,
    {{ dimension }}_id as member_id,
    {{ count_reviews() }}
from {{ 'agent_reviews' if dimension == 'agent' else 'reviews' }}
where {{ is_visible(dimension ~ '_id') }}
group by date_day, member_id
{{ 'union all' if not loop.last }}
{% endfor %}
