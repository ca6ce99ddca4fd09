with days as (
    select * from {{ ref('int_csat_by_member_daily') }}
    where dimension != 'all'
),

members as (
    select * from {{ ref('int_csat_members') }}
)

select
    days.date_day,
    days.dimension,
    days.member_id,
    -- Agents have no id but their name.
    coalesce(members.member, days.member_id) as member,
    days.count_ratings,
    days.count_positive,
    days.count_neutral,
    days.count_negative,
    {{ net_csat('days.count_positive', 'days.count_negative', 'days.count_ratings') }} as net_csat
from days
left join members
    on days.dimension = members.dimension and days.member_id = members.member_id
