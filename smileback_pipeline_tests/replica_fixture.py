"""A replica with rows of the test's choosing, as the sync would have left them."""

from pathlib import Path
from typing import Any

from smileback_pipeline.replica.warehouse import Warehouse

Rows = dict[Any, dict[str, Any]]  # columns and values, by id
Replica = dict[str, Rows]  # by table


def write_replica(path: Path, replica: Replica, *, pending_days: list[str]) -> None:
    """Make the replica in the file at `path` hold these rows and no others, with these days pending."""
    with Warehouse(path).connect() as connection:
        tables = connection.execute("select table_name from duckdb_tables() where schema_name = 'replica'").fetchall()
        for (table,) in tables:
            if table not in ("notes", "pending_days"):
                connection.execute(f"delete from replica.{table}")
        for table, rows in replica.items():
            for key, row in rows.items():
                columns, marks = ", ".join(f'"{name}"' for name in row), "?, " * len(row)
                connection.execute(
                    f"insert into replica.{table} ({columns}, id) values ({marks} ?)", [*row.values(), key]
                )
        connection.execute("delete from replica.pending_days")
        connection.execute("insert into replica.pending_days select unnest(?::date[])", [pending_days])
