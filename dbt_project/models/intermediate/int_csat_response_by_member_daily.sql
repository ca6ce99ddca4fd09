with reviews as not materialized (
    select *
    from {{ ref('stg_smileback__reviews') }}
    {% if is_incremental() %} where {{ is_on_pending_day('response_at') }} {% endif %}
),

members as (
    select
        response_at,
        'agent' as dimension,
        unnest({{ distinct_names('agents') }}) as member_id,
        rating
    from reviews
    {%- for dimension in ['board', 'company', 'contact'] %}
    union all
    select
        response_at,
        '{{ dimension }}' as dimension,
        {{ dimension }}_id as member_id,
        rating
    from reviews
    where {{ is_visible(dimension ~ '_id') }}
    {%- endfor %}
)

select
    {{ reporting_day('response_at') }} as date_day,
    dimension,
    member_id,
    {{ count_reviews() }}
from members
group by date_day, dimension, member_id
