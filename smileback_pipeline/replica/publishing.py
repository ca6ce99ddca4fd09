"""Publishing: the analysts' file, swapped in whole by an atomic rename.

DuckDB lets one process write or many read. So analysts read a copy; whoever has the old one open keeps it
until they open it again, and neither side can lock the other out.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb

from smileback_pipeline.replica.privacy import EVERYTHING, Privacy, prepare, published_rows
from smileback_pipeline.replica.warehouse import PACKED_ROWS, STORAGE_VERSION, Warehouse, WarehouseError

# Ours alone: how far the sync is, and records that cannot be right.
_INTERNAL_TABLES = ("sync_state", "walk_seen", "rejected_records", "pending_days", "notes")
_UNFINISHED = ".unfinished"
_COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"


class PublishingError(Exception):
    """The analysts' file could not be replaced; the old one still stands."""


def publish(warehouse: Warehouse, target: Path, privacy: Privacy = EVERYTHING) -> int:
    """Replace the file at `target` by what is published of the warehouse now; return its size in bytes.

    Raises PublishingError, for instance when the disk is full; the old file then still stands.
    """
    try:
        with replacing(target) as copy:
            if privacy == EVERYTHING:
                _copy(warehouse, copy)
                _keep_for_analysts(copy)
            else:
                _write_anew(warehouse, copy, privacy)
            # A write-ahead log beside the target belongs to somebody's edits of the old file, and would be
            # replayed into the new one.
            target.with_name(f"{target.name}.wal").unlink(missing_ok=True)
        return target.stat().st_size
    except (OSError, duckdb.Error, subprocess.CalledProcessError, WarehouseError) as error:
        raise PublishingError(
            f"Publishing to {target} failed ({_reason(error)}). The file published before still stands; make room or "
            "mend the path, and sync again."
        ) from None


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path for a new version of the file at `target`, which takes its place at once if the block ends well.

    Who could read the old version can read the new one; the first is for its owner alone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=_UNFINISHED) as directory:
        # Named like the target, since DuckDB calls a database after its file.
        new = Path(directory) / target.name
        yield new
        _keep_readers(new, target)
        _sync(new)
        new.replace(target)
        _sync(target.parent)


def _copy(warehouse: Warehouse, copy: Path) -> None:
    with warehouse.connect() as connection:
        connection.execute("checkpoint")
        # While we have it open nobody else can write it. The copy is another process's work: closing a file that
        # this process has open in DuckDB as well would drop DuckDB's lock on it.
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _COPY, str(warehouse.path), str(copy)],
            check=True,
            capture_output=True,
            text=True,
        )


def _write_anew(warehouse: Warehouse, copy: Path, privacy: Privacy) -> None:
    """Write what is published into a new file: what a copy is changed to leaves traces of what it was."""
    with warehouse.connect() as connection:
        prepare(connection, privacy)
        path = str(copy).replace("'", "''")
        connection.execute(f"attach '{path}' as published (storage_version '{STORAGE_VERSION}')")
        [[database]] = connection.execute("select replace(current_database(), '\"', '\"\"')").fetchall()
        connection.execute(f'copy from database "{database}" to published (schema)')
        tables = connection.execute(
            """
            select schema_name, table_name, list(column_name order by column_index)
            from duckdb_columns() semi join duckdb_tables() using (database_name, schema_name, table_name)
            where database_name = current_database() and not internal
            group by all
            """
        ).fetchall()
        for schema, table, columns in tables:
            if schema == "replica" and table in _INTERNAL_TABLES:
                connection.execute(f'drop table published.{schema}."{table}"')
            else:
                warehouse.make_room(_packed_size(connection, f'{schema}."{table}"'))
                rows = published_rows(schema, table, columns, privacy)
                connection.execute(f'insert into published.{schema}."{table}" {rows}')
        connection.execute("detach published")


def _packed_size(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """The bytes of as many rows as DuckDB packs together, judged by every tenth row of the table."""
    row = connection.execute(
        f"""
        select cast(avg(strlen(cast(each as varchar))) * least({PACKED_ROWS}, (select count(*) from {table})) as bigint)
        from (from {table} where rowid % 10 = 0) as each
        """
    ).fetchone()
    assert row is not None
    return row[0] or 0


def _keep_for_analysts(copy: Path) -> None:
    with contextlib.closing(duckdb.connect(copy)) as connection:
        for table in _INTERNAL_TABLES:
            connection.execute(f"drop table if exists replica.{table}")
        connection.execute("checkpoint")


def _keep_readers(copy: Path, target: Path) -> None:
    if not target.exists():
        copy.chmod(0o600)
        return
    old = target.stat()
    # Only a member of the group may give a file to it.
    with contextlib.suppress(PermissionError):
        os.chown(copy, -1, old.st_gid)
    copy.chmod(stat.S_IMODE(old.st_mode))


def _remove_leftovers(target: Path) -> None:
    """Clear away what a killed process left behind of ours; an editor's `.name.swp` is not."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*{_UNFINISHED}"):
        for file in leftover.glob("*"):
            file.unlink()
        leftover.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return error.stderr.strip().splitlines()[-1] if error.stderr.strip() else f"copy exited {error.returncode}"
    return str(error).splitlines()[0]
