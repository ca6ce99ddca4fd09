{# Beside every score stand the counts that it is made of, parts of one whole: that keeps it in its range. #}
{% test counts_add_up(model, condition) %}

select date_day
from {{ model }}
where ({{ condition }}) is not true

{% endtest %}
