"""Dagster's event log on SQLite, able to store the events of many partitions at once.

The storage that comes with Dagster takes two transactions and 15 ms for each event, which makes a minute of a
first run with its thousands of days. This one takes two for each batch; `dagster.yaml` selects it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import sqlalchemy
from dagster import DagsterEventType
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData

# Without this variable Dagster does not gather events. Every process that uses the storage imports this module.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")

_BATCHED = {DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
_NEWEST = sqlalchemy.select(sqlalchemy.func.max(SqlEventLogStorageTable.c.id))


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """Stores what SqliteEventLogStorage stores, in one transaction for each of its two files."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> BatchingSqliteEventLogStorage:
        """See ConfigurableClass; the inherited method makes its own class."""
        return cls(inst_data=inst_data, **config_value)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run."""
        if not all(event.dagster_event_type in _BATCHED for event in events):
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        # The log of the run, and the index in which assets are looked up.
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        with self.index_transaction() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            # SQLite has a single writer, so the ids of a transaction follow one another.
            newest: int = connection.execute(_NEWEST).scalar_one()
            ids = range(newest - len(events) + 1, newest + 1)
            self._store_asset_event_tags(connection, events, ids)
            # The table of assets keeps the newest event of each asset and type.
            latest = {
                (event.get_dagster_event().asset_key, event.dagster_event_type): position
                for position, event in enumerate(events)
            }
            for position in sorted(latest.values()):
                self._store_asset_event(connection, events[position], ids[position])


def log_materializations(
    context: dg.AssetExecutionContext, materializations: Sequence[dg.AssetMaterialization]
) -> None:
    """Log what `context.log_event` would log, in batches where the instance's storage takes them."""
    step, batch = context.get_step_execution_context(), generate_event_batch_id()
    for position, materialization in enumerate(materializations, start=1):
        is_end = position == len(materializations)
        DagsterEvent.asset_materialization(step, materialization, DagsterEventBatchMetadata(batch, is_end))
