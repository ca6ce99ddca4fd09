with days as (
    select * from {{ ref('int_csat_response_by_member_daily') }}
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
    days.count_reviews,
    days.count_rated,
    {{ response_rate('days.count_rated', 'days.count_reviews') }} as response_rate
from days
left join members
    on days.dimension = members.dimension and days.member_id = members.member_id
