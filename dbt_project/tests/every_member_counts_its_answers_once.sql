-- An answer that was forgotten, or counted twice for a member, shows in the member's totals.
{{ config(tags=['whole_history'], meta={'dagster': {'ref': {'name': 'int_csat_by_member_daily'}}}) }}

with teams as (
    select
        agents,
        rating,
        count(*) as count_reviews
    from {{ ref('stg_smileback__reviews') }}
    group by agents, rating
),

members as (
    select
        'agent' as dimension,
        unnest({{ distinct_names('agents') }}) as member_id,
        rating,
        count_reviews
    from teams
    {%- for dimension in ['board', 'company'] %}
    union all
    select
        '{{ dimension }}' as dimension,
        {{ dimension }}_id as member_id,
        rating,
        count(*) as count_reviews
    from {{ ref('stg_smileback__reviews') }}
    group by {{ dimension }}_id, rating
    {%- endfor %}
),

recomputed as (
    select
        dimension,
        member_id,
        sum(count_reviews) as count_reviews,
        coalesce(sum(count_reviews) filter (where rating is not null), 0) as count_rated,
        coalesce(sum(count_reviews) filter (where rating is not null), 0) as count_ratings,
        coalesce(sum(rating * count_reviews), 0) as balance
    from members
    where {{ is_visible('member_id') }}
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
