with listed as (
    select
        company_id,
        {{ blank_to_null('company_name') }} as company_name
    from {{ ref('stg_smileback__csat_companies') }}
),

in_reviews as (
    {{ latest_in_reviews('company', ['company_name', 'company_territory_name', 'company_market_name']) }}
),

named as (
    select
        coalesce(listed.company_id, in_reviews.company_id) as company_id,
        coalesce(listed.company_name, in_reviews.company_name) as company_name,
        in_reviews.company_territory_name,
        in_reviews.company_market_name
    from listed
    full join in_reviews on listed.company_id = in_reviews.company_id
),

called as (
    {{ with_member('named', 'company_id', 'company_name') }}
)

select
    company_id,
    member,
    company_name,
    company_territory_name,
    company_market_name,
    {{ possible_duplicate_of('company_name', 'member', 'member') }} as possible_duplicate_of
from called
