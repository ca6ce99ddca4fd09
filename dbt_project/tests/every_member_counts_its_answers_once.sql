-- An answer that was forgotten, or counted twice for a member, shows in the member's totals.
{{ config(tags=['whole_history'], meta={'dagster': {'ref': {'name': 'int_csat_by_member_daily'}}}) }}

with members as (
    select
        'agent' as dimension,
        unnest({{ distinct_names('agents') }}) as member_id,
        rating
    from {{ ref('stg_smileback__reviews') }}
    {%- for dimension in ['board', 'company', 'contact'] %}
    union all
    select
        '{{ dimension }}' as dimension,
        {{ dimension }}_id as member_id,
        rating
    from {{ ref('stg_smileback__reviews') }}
    where {{ is_visible(dimension ~ '_id') }}
    {%- endfor %}
),

recomputed as (
    select
        dimension,
        member_id,
        count(*) as count_reviews,
        count(rating) as count_rated,
        count(rating) as count_ratings,
        coalesce(sum(rating), 0) as balance
    from members
    group by dimension, member_id
),

responses as (
    select
        dimension,
        member_id,
        sum(count_reviews) as count_reviews,
        sum(count_rated) as count_rated
    from {{ ref('int_csat_response_by_member_daily') }}
    where dimension != 'all'
    group by dimension, member_id
),

ratings as (
    select
        dimension,
        member_id,
        sum(count_ratings) as count_ratings,
        sum(count_positive - count_negative) as balance
    from {{ ref('int_csat_by_member_daily') }}
    where dimension != 'all'
    group by dimension, member_id
),

built as (
    select
        coalesce(responses.dimension, ratings.dimension) as dimension,
        coalesce(responses.member_id, ratings.member_id) as member_id,
        coalesce(responses.count_reviews, 0) as count_reviews,
        coalesce(responses.count_rated, 0) as count_rated,
        coalesce(ratings.count_ratings, 0) as count_ratings,
        coalesce(ratings.balance, 0) as balance
    from responses
    full join ratings
        on responses.dimension = ratings.dimension and responses.member_id = ratings.member_id
)

(
    select * from recomputed
    except all
    select * from built
)
union all
(
    select * from built
    except all
    select * from recomputed
)
