{#
Rows counted for all and for each of their members, in the CTEs and the query that end a model: one row a day, dimension
and member; those of all are member `all` of dimension `all`. `rows` is a materialized CTE with `date_day`, `agents` and
the ids of boards and companies, `count` what is counted of them, and `columns` how that is called.

There may be years of rows. So who is in a team, of which there are few, is asked of what was counted for the team, and
so is whether there is something to see in an id.
#}
{% macro counted_by_member(rows, count, columns) -%}
team_days as (
    select
        date_day,
        agents,
        {{ count }}
    from {{ rows }}
    group by date_day, agents
),

agent_days as (
    select
        date_day,
        unnest(list_distinct(agents)) as agent_id,
        {{ columns | join(', ') }}
    from team_days
),

member_days as (
    select
        date_day,
        'all' as dimension,
        'all' as member_id,
        {%- for column in columns %}
        cast(sum({{ column }}) as bigint) as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from team_days
    group by date_day
    union all
    select
        date_day,
        'agent' as dimension,
        agent_id as member_id,
        {%- for column in columns %}
        cast(sum({{ column }}) as bigint) as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from agent_days
    group by date_day, agent_id
    {%- for dimension in ['board', 'company'] %}
    union all
    select
        date_day,
        '{{ dimension }}' as dimension,
        {{ dimension }}_id as member_id,
        {{ count }}
    from {{ rows }}
    group by date_day, {{ dimension }}_id
    {%- endfor %}
)

select * from member_days
where {{ is_visible('member_id') }}
{%- endmacro %}
