{# Which day an instant falls on, and which days have to be computed anew. #}

{# The calendar day of an instant in the reporting time zone, whatever the time zone of the reader's session. #}
{% macro reporting_day(instant) -%}
    cast(timezone('{{ env_var("SMILEBACK_TIMEZONE", "UTC") }}', {{ instant }}) as date)
{%- endmacro %}


{#
Whether an instant may fall on a pending day: `replace_days` keeps what does, and lets go of what does not.

Cutting days in a time zone is dear, so an instant's UTC day has to do, and the two beside it: a zone is less than a
day away from UTC. The sieve works only if it comes before every dear expression, hence on plain columns of staging.
#}
{% macro is_near_pending_day(instant) -%}
    epoch_us({{ instant }}) // 86400000000 in (
            select unnest([utc_day - 1, utc_day, utc_day + 1])
            from (
                select distinct date_day - date '1970-01-01' as utc_day
                from {{ source('replica', 'pending_days') }}
            ) as pending
        )
{%- endmacro %}


{#
Incremental strategy `replace_days`: delete the pending days and insert them as computed now, in one
transaction. Unlike a strategy keyed on the rows that arrive, it also empties a day that has none left.
Days that were computed along with them stay as they are.
#}
{% macro get_incremental_replace_days_sql(args) -%}
    {%- set columns = get_quoted_csv(args.dest_columns | map(attribute='name')) -%}
    {%- set is_pending = 'date_day in (select date_day from ' ~ source('replica', 'pending_days') ~ ')' -%}
    delete from {{ args.target_relation }} where {{ is_pending }};

    insert into {{ args.target_relation }} ({{ columns }})
    select {{ columns }} from {{ args.temp_relation }} where {{ is_pending }};
{%- endmacro %}
