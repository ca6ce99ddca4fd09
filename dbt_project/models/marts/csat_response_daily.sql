{{ config(materialized='incremental', tags=['daily']) }}

with counted as (
    select * from {{ ref('int_csat_response_by_member_daily') }}
    where dimension = 'all'
)

select
    date_day,
    count_reviews,
    count_rated,
    {{ response_rate('count_rated', 'count_reviews') }} as response_rate
from counted
