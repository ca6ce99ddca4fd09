"""Dagster's event log on SQLite, quick enough for the thousands of days of a first run.

The storage that comes with Dagster opens its files anew for each event, which takes 10 ms to 50 ms. This one keeps
them open, and stores the events of many partitions in one transaction. `dagster.yaml` selects it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster import DagsterEventType
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData

# Without this variable Dagster does not gather events. Every process that uses the storage imports this module.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")

# Each run has a file. A server looks at many of them, and has no use for the older ones.
_OPEN_FILES = 8
_BATCHED = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
_NEWEST = sqlalchemy.select(sqlalchemy.func.max(SqlEventLogStorageTable.c.id))


class QuickSqliteEventLogStorage(SqliteEventLogStorage):
    """Stores what SqliteEventLogStorage stores, in the same files, with fewer of them opened and transactions begun."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = functools.lru_cache(_OPEN_FILES)(self._open_engine)
        self._engines: weakref.WeakSet[sqlalchemy.Engine] = weakref.WeakSet()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> QuickSqliteEventLogStorage:
        """See ConfigurableClass; the inherited method makes its own class."""
        return cls(inst_data=inst_data, **config_value)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run."""
        for event in events:
            if event.dagster_event_type not in _BATCHED:
                self.store_event(event)
        batch = [event for event in events if event.dagster_event_type in _BATCHED]
        if not batch:
            return
        rows = [self._event_to_row(event) for event in batch]
        # The log of the run, and the index in which assets are looked up.
        with self.run_connection(batch[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        with self.index_transaction() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            # SQLite has a single writer, so the ids of a transaction follow one another.
            newest: int = connection.execute(_NEWEST).scalar_one()
            ids = range(newest - len(batch) + 1, newest + 1)
            self._store_asset_event_tags(connection, batch, ids)
            # The table of assets keeps the newest event of each asset and type.
            latest = {
                (event.get_dagster_event().asset_key, event.dagster_event_type): position
                for position, event in enumerate(batch)
            }
            for position in sorted(latest.values()):
                self._store_asset_event(connection, batch[position], ids[position])

    def delete_events(self, run_id: str) -> None:
        """Delete all of a run: also what its checks found, and its file, both of which the inherited method keeps."""
        super().delete_events(run_id)
        with self.index_transaction() as connection:
            connection.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id == run_id))
        self._close_files()
        for file in Path(self.path_for_shard(run_id)).parent.glob(f"{run_id}.db*"):
            file.unlink()

    def wipe(self) -> None:
        """Delete all files, which must not stay open."""
        self._close_files()
        super().wipe()

    def dispose(self) -> None:
        """Close all files."""
        self._close_files()
        super().dispose()

    def _close_files(self) -> None:
        # Not when they are collected, which at the end of a process they may never be.
        with self._db_lock:
            for engine in self._engines:
                engine.dispose()
            self._engine.cache_clear()

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _open_engine(self, shard: str) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(
            self.conn_string_for_shard(shard),
            # One connection, which any thread may use as long as it holds the lock.
            poolclass=sqlalchemy.StaticPool,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        )
        self._initdb(engine)
        self._engines.add(engine)
        return engine


def log_materializations(
    context: dg.AssetExecutionContext, materializations: Sequence[dg.AssetMaterialization]
) -> None:
    """Log what `context.log_event` would log, in batches where the instance's storage takes them."""
    step, batch = context.get_step_execution_context(), generate_event_batch_id()
    for position, materialization in enumerate(materializations, start=1):
        is_end = position == len(materializations)
        DagsterEvent.asset_materialization(step, materialization, DagsterEventBatchMetadata(batch, is_end))
