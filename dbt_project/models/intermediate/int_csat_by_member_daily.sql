-- The few ratings of pending days are sieved out once for all dimensions; years of history are rather read
-- again by each of them than held in memory.
with ratings as {{ 'materialized' if is_incremental() else 'not materialized' }} (
    select
        rated_at,
        rating,
        agents,
        board_id,
        company_id,
        contact_id
    from {{ ref('stg_smileback__reviews') }}
    where
        rating is not null
        {% if is_incremental() %} and {{ is_on_pending_day('rated_at') }} {% endif %}
),

agent_ratings as (
    select
        rated_at,
        rating,
        unnest(list_distinct(agents)) as agent_id
    from ratings
)

{% for dimension in ['agent', 'board', 'company', 'contact'] -%}
select
    {{ reporting_day('rated_at') }} as date_day,
    '{{ dimension }}' as dimension,
    {{ dimension }}_id as member_id,
    {{ count_ratings() }}
from {{ 'agent_ratings' if dimension == 'agent' else 'ratings' }}
where {{ is_visible(dimension ~ '_id') }}
group by date_day, member_id
{{ 'union all' if not loop.last }}
{% endfor %}
