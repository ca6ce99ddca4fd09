{# How members (agents, boards, companies ...) are recognised and called. #}

{# Whether there is something to see in a name or id: neither null nor blank. #}
{% macro is_visible(text) -%}
    regexp_matches({{ text }}, '[^\p{Z}\p{Cc}]')
{%- endmacro %}


{% macro blank_to_null(text) -%}
    case when {{ is_visible(text) }} then {{ text }} end
{%- endmacro %}


{# The names on a list, each once and in order. Spelling is left alone: `AK` and `ak` stay two. #}
{% macro distinct_names(names) -%}
    list_sort(list_distinct(list_filter({{ names }}, lambda name: {{ is_visible('name') }})))
{%- endmacro %}


{#
What the reviews say about each `entity`, by its id: of every column the last that was not blank, in the order of
modification. Reviews modified in one moment follow each other by id, so that the answer never depends on luck.
Versions are made few before they are compared, which keeps years of reviews cheap.
#}
{% macro latest_in_reviews(entity, columns) -%}
    select
        {{ entity }}_id,
        {%- for column in columns %}
        arg_max({{ blank_to_null(column) }}, last_place) as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from (
        select
            {{ entity }}_id,
            {{ columns | join(', ') }},
            max(cast(coalesce(epoch_us(last_modified), 0) as hugeint) * {{ 2 ** 62 }} + review_id) as last_place
        from {{ ref('stg_smileback__reviews') }}
        where {{ is_visible(entity ~ '_id') }}
        group by {{ entity }}_id, {{ columns | join(', ') }}
    ) as versions
    group by {{ entity }}_id
{%- endmacro %}


{#
The rows of CTE `named` with a `member`: the name by which reports call it, unique. Without a name it goes by its id;
those that share a name get their id behind it, and so does a name that looks like one made this way.
#}
{% macro with_member(named, id, name) -%}
    select
        * exclude (label),
        {{ tell_apart('label', id) }} as member
    from (
        select
            *,
            {{ tell_apart('coalesce(' ~ name ~ ', ' ~ id ~ ')', id) }} as label
        from {{ named }}
    ) as labelled
{%- endmacro %}


{% macro tell_apart(label, id) -%}
    case
            when count(*) over (partition by {{ label }}) = 1 then {{ label }}
            else {{ label }} || ' (' || {{ id }} || ')'
        end
{%- endmacro %}


{#
The first name, by `preference`, of those that differ in case or spacing alone, for the others of them; null for the first
and for a name that stands alone. Whether they are one is for people to say.
#}
{% macro possible_duplicate_of(name, called, preference) -%}
    case
        when {{ name }} is not null
            then nullif(
                first_value({{ called }}) over (
                    partition by lower(trim(regexp_replace({{ name }}, '[\p{Z}\p{Cc}]+', ' ', 'g')))
                    order by {{ preference }}
                ),
                {{ called }}
            )
    end
{%- endmacro %}
