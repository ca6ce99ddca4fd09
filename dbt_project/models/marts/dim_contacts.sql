with listed as (
    select
        contact_id,
        {{ blank_to_null('contact_name') }} as contact_name
    from {{ ref('stg_smileback__csat_contacts') }}
),

in_reviews as (
    {{ latest_in_reviews('contact', ['contact_name', 'contact_email']) }}
),

named as (
    select
        coalesce(listed.contact_id, in_reviews.contact_id) as contact_id,
        coalesce(listed.contact_name, in_reviews.contact_name) as contact_name,
        in_reviews.contact_email
    from listed
    full join in_reviews on listed.contact_id = in_reviews.contact_id
),

called as (
    {{ with_member('named', 'contact_id', 'contact_name') }}
)

select
    contact_id,
    member,
    contact_name,
    contact_email
from called
