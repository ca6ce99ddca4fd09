with replaced as (
    select * from {{ source('replica', 'review_versions') }}
),

-- Few of all reviews; the join below would otherwise read and keep all of them.
reviews as materialized (
    select * from {{ ref('stg_smileback__reviews') }}
    where review_id in (select id from replaced)
),

-- What is replaced now comes last.
versions as (
    select
        id as review_id,
        rating,
        rated_on,
        last_modified,
        replaced_at
    from replaced
    union all
    select
        review_id,
        rating,
        rated_on,
        last_modified,
        timestamptz 'infinity' as replaced_at
    from reviews
),

compared as (
    select
        review_id,
        rating as rating_after,
        rated_on,
        last_modified,
        lag(rating) over observed as rating_before,
        lag(rated_on) over observed as rated_on_before,
        lag(last_modified) over observed as last_modified_before,
        row_number() over observed - 1 as change_number
    from versions
    window observed as (
        partition by review_id
        order by replaced_at
    )
),

changes as (
    select
        review_id,
        change_number,
        rating_before,
        rating_after,
        coalesce(rated_on_before, last_modified_before) as rated_at_before,
        -- A correction within SmileBack leaves the time of the customer's click alone.
        case when rated_on > rated_on_before then rated_on else last_modified end as changed_at
    from compared
    where rating_before is not null and rating_before is distinct from rating_after
)

select
    changes.review_id || '/' || changes.change_number as rating_change_id,
    changes.review_id,
    changes.rating_before,
    changes.rating_after,
    coalesce(changes.rating_after > changes.rating_before, false) as is_recovery,
    changes.rated_at_before,
    changes.changed_at,
    {{ reporting_day('changes.changed_at') }} as changed_day,
    epoch_us(changes.changed_at - changes.rated_at_before) / 3600e6 as hours_to_change,
    {{ distinct_names('reviews.agents') }} as agents,
    reviews.board_id,
    reviews.board_name,
    reviews.company_id,
    reviews.company_name,
    reviews.permalink
from changes
inner join reviews on changes.review_id = reviews.review_id
