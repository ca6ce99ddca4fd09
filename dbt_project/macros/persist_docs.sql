{#
What a model and its columns are, as comments in the file, in one statement. The macro that this replaces asks DuckDB for
the columns twice before, to leave out what is not there; all that is described is there, since contracts see to it.
#}
{% macro duckdb__persist_docs(relation, model, for_relation, for_columns) -%}
    {%- if for_relation and for_columns and config.persist_relation_docs() and config.persist_column_docs() -%}
        {%- call statement('comments') %}
    comment on {{ relation.type }} {{ relation }} is {{ duckdb_escape_comment(model.description) }};
            {%- for column in model.columns.values() %}
    comment on column {{ relation }}.{{ adapter.quote(column.name) }} is {{ duckdb_escape_comment(column.description) }};
            {%- endfor %}
        {%- endcall -%}
    {%- endif -%}
{%- endmacro %}
