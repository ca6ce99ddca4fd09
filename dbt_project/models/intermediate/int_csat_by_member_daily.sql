with ratings as materialized (
    select
        {{ reporting_day('rated_at') }} as date_day,
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

-- Teams are few: who is in one is asked when its ratings are counted, and not of each of them.
team_days as (
    select
        date_day,
        agents,
        {{ count_ratings() }}
    from ratings
    group by date_day, agents
),

agent_days as (
    select
        date_day,
        unnest(list_distinct(agents)) as agent_id,
        count_ratings,
        count_positive,
        count_neutral,
        count_negative
    from team_days
)

select
    date_day,
    'agent' as dimension,
    agent_id as member_id,
    cast(sum(count_ratings) as bigint) as count_ratings,
    cast(sum(count_positive) as bigint) as count_positive,
    cast(sum(count_neutral) as bigint) as count_neutral,
    cast(sum(count_negative) as bigint) as count_negative
from agent_days
where {{ is_visible('agent_id') }}
group by date_day, member_id
{% for dimension in ['board', 'company', 'contact'] -%}
union all
select
    date_day,
    '{{ dimension }}' as dimension,
    {{ dimension }}_id as member_id,
    {{ count_ratings() }}
from ratings
where {{ is_visible(dimension ~ '_id') }}
group by date_day, member_id
{% endfor %}
