{{ config(materialized='view') }}

{% for dimension, plural in [('board', 'boards'), ('company', 'companies'), ('contact', 'contacts')] %}
select
    '{{ dimension }}' as dimension,
    {{ dimension }}_id as member_id,
    member
from {{ ref('dim_' ~ plural) }}
{{ "union all" if not loop.last }}
{% endfor %}
