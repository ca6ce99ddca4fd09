{# Which day an instant falls on, and which days have to be computed anew. #}

{# The calendar day of an instant in the reporting time zone, whatever the time zone of the reader's session. #}
{% macro reporting_day(instant) -%}
    cast(timezone('{{ env_var("SMILEBACK_TIMEZONE", "UTC") }}', {{ instant }}) as date)
{%- endmacro %}


{#
Whether an instant falls on a pending day.

Cutting a day in a time zone is dear, and a join with the pending days would come after every expression of the
fact below it. Constants do not: they are filtered in the scan itself. So the UTC days around the pending ones
are written out first, as integers, and only what they let through is cut exactly. (A zone is at most
14 hours away from UTC, so an instant's UTC day is its reporting day or a neighbour of it.)
#}
{% macro is_on_pending_day(instant) -%}
    {%- set pending_days = source('replica', 'pending_days') -%}
    {%- set nearby -%}
        select distinct unnest([utc_day - 1, utc_day, utc_day + 1]) as utc_day
        from (select date_day - date '1970-01-01' as utc_day from {{ pending_days }})
        order by utc_day
    {%- endset -%}
    {%- set utc_days = run_query(nearby).columns[0].values() if execute else [] -%}
    epoch_us({{ instant }}) // 86400000000 in ({{ utc_days | join(', ') or 'null' }})
    and {{ reporting_day(instant) }} in (select date_day from {{ pending_days }})
{%- endmacro %}


{#
Incremental strategy `replace_days`: delete the pending days and insert them as computed now, in one
transaction. Unlike a strategy keyed on the rows that arrive, it also empties a day that has none left.
#}
{% macro get_incremental_replace_days_sql(args) -%}
    {%- set columns = get_quoted_csv(args.dest_columns | map(attribute='name')) -%}
    delete from {{ args.target_relation }}
    where date_day in (select date_day from {{ source('replica', 'pending_days') }});

    insert into {{ args.target_relation }} ({{ columns }})
    select {{ columns }} from {{ args.temp_relation }};
{%- endmacro %}
