{{ config(materialized='incremental', tags=['daily']) }}

with counted as (
    select * from {{ ref('int_csat_by_member_daily') }}
    where dimension = 'all'
)

select
    date_day,
    count_ratings,
    count_positive,
    count_neutral,
    count_negative,
    {{ net_csat('count_positive', 'count_negative', 'count_ratings') }} as net_csat
from counted
