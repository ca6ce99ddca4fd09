{#
Computed day by day over years of late changes, a daily mart is what the facts say as a whole now.
`recomputed` has, by column of the mart, how it comes from the facts of a day; the first is what a day needs one of.
#}
{% test equals_its_facts(model, facts, day, recomputed) %}

with recomputed as (
    select
        {{ day }} as date_day,
        {% for column, expression in recomputed.items() -%}
            {{ expression }} as {{ column }}{{ "," if not loop.last }}
        {% endfor %}
    from {{ facts }}
    group by {{ day }}
    having {{ recomputed.values() | first }} > 0
),

built as (
    select
        date_day,
        {% for column in recomputed -%}
            sum({{ column }}) as {{ column }}{{ "," if not loop.last }}
        {% endfor %}
    from {{ model }}
    group by date_day
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

{% endtest %}
