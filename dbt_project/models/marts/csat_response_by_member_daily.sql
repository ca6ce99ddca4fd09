with contact_days as (
    select
        {{ reporting_day('response_at') }} as date_day,
        'contact' as dimension,
        contact_id as member_id,
        {{ count_reviews() }}
    from {{ ref('stg_smileback__reviews') }}
    where {{ is_visible('contact_id') }}
    group by date_day, contact_id
),

days as (
    select * from {{ ref('int_csat_response_by_member_daily') }}
    where dimension != 'all'
    union all
    -- Hardly anybody is asked twice a day: stored, these would be as many again as the reviews.
    select * from contact_days
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
