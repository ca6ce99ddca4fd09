with reviews as materialized (
    select
        {{ reporting_day('response_at') }} as date_day,
        rating,
        agents,
        board_id,
        company_id
    from {{ ref('stg_smileback__reviews') }}
    {% if is_incremental() %} where {{ is_near_pending_day('response_at') }} {% endif %}
),

{{ counted_by_member('reviews', count_reviews(), ['count_reviews', 'count_rated']) }}
