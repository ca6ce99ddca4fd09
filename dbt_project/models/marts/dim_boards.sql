with listed as (
    select
        board_id,
        {{ blank_to_null('board_name') }} as board_name
    from {{ ref('stg_smileback__csat_boards') }}
),

in_reviews as (
    {{ latest_in_reviews('board', ['board_name']) }}
),

named as (
    select
        coalesce(listed.board_id, in_reviews.board_id) as board_id,
        coalesce(listed.board_name, in_reviews.board_name) as board_name
    from listed
    full join in_reviews on listed.board_id = in_reviews.board_id
),

called as (
    {{ with_member('named', 'board_id', 'board_name') }}
)

select
    board_id,
    member,
    board_name
from called
