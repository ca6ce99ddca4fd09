{# The columns together tell rows apart; a null is a value like any other. #}
{% test unique_grain(model, columns) %}

select {{ columns | join(', ') }}
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1

{% endtest %}
