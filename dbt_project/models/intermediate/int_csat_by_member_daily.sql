with ratings as not materialized (
    select *
    from {{ ref('stg_smileback__reviews') }}
    where
        rating is not null
        {% if is_incremental() %} and {{ is_on_pending_day('rated_at') }} {% endif %}
),

members as (
    select
        rated_at,
        'agent' as dimension,
        unnest({{ distinct_names('agents') }}) as member_id,
        rating
    from ratings
    {%- for dimension in ['board', 'company', 'contact'] %}
    union all
    select
        rated_at,
        '{{ dimension }}' as dimension,
        {{ dimension }}_id as member_id,
        rating
    from ratings
    where {{ is_visible(dimension ~ '_id') }}
    {%- endfor %}
)

select
    {{ reporting_day('rated_at') }} as date_day,
    dimension,
    member_id,
    {{ count_ratings() }}
from members
group by date_day, dimension, member_id
