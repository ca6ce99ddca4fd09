"""Which columns a column of a dbt model comes from, read out of the compiled SQL."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import sqlglot
from sqlglot import exp
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

# By model and column: the unique ids of the models or sources beside the columns in them.
Lineage = Mapping[str, Mapping[str, list[tuple[str, str]]]]


def save_lineage(target: Path, path: Path) -> None:
    """Find the lineage of all models that dbt compiled into `target`, which takes seconds, and keep it at `path`."""
    manifest = json.loads((target / "manifest.json").read_text())
    nodes = manifest["nodes"] | manifest["sources"]
    found = {
        key: _column_lineage(node, nodes, target / "compiled" / node["package_name"] / node["original_file_path"])
        for key, node in nodes.items()
        if node["resource_type"] == "model"
    }
    path.write_text(json.dumps(found))


def load_lineage(path: Path) -> Lineage:
    """Return what was kept at `path`."""
    return json.loads(path.read_text())


def table_lineage(
    columns: Mapping[str, list[tuple[str, str]]], keys: Mapping[str, dg.AssetKey]
) -> dg.TableColumnLineage:
    """The lineage of a model as Dagster has it, given the keys of the assets by unique id."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(keys[parent], name) for parent, name in deps if parent in keys]
            for column, deps in columns.items()
        }
    )


def _column_lineage(
    model: Mapping[str, Any], nodes: Mapping[str, Any], compiled: Path
) -> dict[str, list[tuple[str, str]]]:
    """By column; empty where the parser does not understand the SQL as DuckDB does."""
    parents = {_relation(nodes[key]): key for key in model["depends_on"]["nodes"]}
    schema: dict[str, Any] = {}
    for (database, schema_name, table), key in parents.items():
        columns = {name: column["data_type"] or "varchar" for name, column in nodes[key]["columns"].items()}
        if columns:
            schema.setdefault(database, {}).setdefault(schema_name, {})[table] = columns
    found = {}
    with contextlib.suppress(sqlglot.errors.SqlglotError):
        query = qualify(
            sqlglot.parse_one(compiled.read_text(), dialect="duckdb"),
            schema=schema,
            dialect="duckdb",
            validate_qualify_columns=False,
        )
        # Once for all columns: it is what takes the time.
        scope = build_scope(query)
        for column in model["columns"]:
            deps = set()
            for node in lineage(column, query, schema=schema, dialect="duckdb", scope=scope).walk():
                table = node.expression.find(exp.Table)
                parent = parents.get(tuple(part.name.lower() for part in table.parts)) if table else None
                if parent and not node.downstream:
                    deps.add((parent, exp.to_column(node.name).name.lower()))
            found[column] = sorted(deps)
    return found


def _relation(node: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(part.strip('"').lower() for part in node["relation_name"].split("."))
