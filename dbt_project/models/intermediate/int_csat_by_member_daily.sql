with ratings as materialized (
    select
        {{ reporting_day('rated_at') }} as date_day,
        rating,
        agents,
        board_id,
        company_id
    from {{ ref('stg_smileback__reviews') }}
    where
        rating is not null
        {% if is_incremental() %} and {{ is_near_pending_day('rated_at') }} {% endif %}
),

{{ counted_by_member(
    'ratings', count_ratings(), ['count_ratings', 'count_positive', 'count_neutral', 'count_negative']
) }}
