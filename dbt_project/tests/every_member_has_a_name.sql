-- Nobody who is counted is missing from the dimensions: an id would stand in the reports where a name should.
{{ config(tags=['whole_history'], meta={'dagster': {'ref': {'name': 'int_csat_response_by_member_daily'}}}) }}

with counted as (
    select distinct
        dimension,
        member_id
    from {{ ref('int_csat_response_by_member_daily') }}
    where dimension != 'all'
    union all
    select distinct
        'contact' as dimension,
        contact_id as member_id
    from {{ ref('stg_smileback__reviews') }}
    where {{ is_visible('contact_id') }}
),

called as (
    select
        dimension,
        member_id
    from {{ ref('int_csat_members') }}
    union all
    select
        'agent' as dimension,
        agent as member_id
    from {{ ref('dim_agents') }}
)

select * from counted
except
select * from called
