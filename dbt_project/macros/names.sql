{# How members (agents, boards, companies ...) are recognised and called. #}

{# A name or id as it came, or null if there is nothing to see in it. #}
{% macro blank_to_null(text) -%}
    case when {{ is_visible(text) }} then {{ text }} end
{%- endmacro %}


{% macro is_visible(text) -%}
    regexp_matches({{ text }}, '[^\s\p{Z}]')
{%- endmacro %}


{#
What the reviews say about each `entity`, by its id: of every column the last that was not blank. Reviews that
were modified in one moment are told apart by their id, so that the answer never depends on luck.
#}
{% macro latest_in_reviews(entity, columns) -%}
    select
        {{ entity }}_id,
        {%- for column in columns %}
        arg_max({{ column }}, (coalesce(last_modified, response_at), review_id)) as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ ref('stg_smileback__reviews') }}
    where {{ entity }}_id is not null
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
