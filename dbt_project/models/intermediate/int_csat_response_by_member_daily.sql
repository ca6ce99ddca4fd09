with reviews as materialized (
    select
        {{ reporting_day('response_at') }} as date_day,
        rating,
        agents,
        board_id,
        company_id,
        contact_id
    from {{ ref('stg_smileback__reviews') }}
    {% if is_incremental() %} where {{ is_on_pending_day('response_at') }} {% endif %}
),

-- Teams are few: who is in one is asked when its reviews are counted, and not of each of them.
team_days as (
    select
        date_day,
        agents,
        {{ count_reviews() }}
    from reviews
    group by date_day, agents
),

agent_days as (
    select
        date_day,
        unnest(list_distinct(agents)) as agent_id,
        count_reviews,
        count_rated
    from team_days
)

select
    date_day,
    'agent' as dimension,
    agent_id as member_id,
    cast(sum(count_reviews) as bigint) as count_reviews,
    cast(sum(count_rated) as bigint) as count_rated
from agent_days
where {{ is_visible('agent_id') }}
group by date_day, member_id
{% for dimension in ['board', 'company', 'contact'] -%}
union all
select
    date_day,
    '{{ dimension }}' as dimension,
    {{ dimension }}_id as member_id,
    {{ count_reviews() }}
from reviews
where {{ is_visible(dimension ~ '_id') }}
group by date_day, member_id
{% endfor %}
