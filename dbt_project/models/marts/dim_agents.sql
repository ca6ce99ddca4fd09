with listed as (
    select
        agent_name as agent,
        list(agent_id order by agent_id) as agent_ids
    from {{ ref('stg_smileback__csat_agents') }}
    where {{ is_visible('agent_name') }}
    group by agent_name
),

in_reviews as (
    select distinct agent
    from (select unnest(agents) as agent from {{ ref('stg_smileback__reviews') }}) as named
    where {{ is_visible('agent') }}
),

named as (
    select
        coalesce(listed.agent, in_reviews.agent) as agent,
        listed.agent_ids
    from listed
    full join in_reviews on listed.agent = in_reviews.agent
)

select
    agent,
    agent_ids,
    {{ possible_duplicate_of('agent', 'agent', 'agent_ids is null, agent') }} as possible_duplicate_of
from named
