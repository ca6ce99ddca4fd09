"""Sync state: how far each endpoint has been read, and what is still to be done with what was read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from smileback_pipeline.endpoints import Endpoint


@dataclass(frozen=True)
class SyncState:
    """How far an endpoint has been read. A walk that was cut short has `walk_started_at`."""

    watermark: datetime | None = None
    """Everything that changed before this is in the replica; None before the first complete walk."""
    walk_started_at: datetime | None = None
    walk_since: datetime | None = None
    """Where the walk under way began; None for the whole list."""
    walk_from: datetime | None = None
    """Where the walk under way can go on, since all before is landed; None if it has to begin again."""
    walk_is_full: bool = False
    """Whether the walk under way shows every record there is, so that the others are gone."""
    read_whole_at: datetime | None = None
    reread_at: datetime | None = None
    """When the recent past was last read again."""
    synced_at: datetime | None = None
    """When the last complete walk began."""


BUILT_WITH = "marts_built_with"
"""Note: the fingerprint of what the marts were last built by."""
PUBLISHED_WITH = "published_with"
"""Note: the fingerprint of how much of people was last published."""
UNPUBLISHED = "unpublished"
"""Note: present from the first change of the replica until analysts can see it, in the file and on the scorecard."""
UNCHECKED = "whole_history_unchecked"
"""Note: present from a reason to check all of history until it has passed."""

_COLUMNS = tuple(SyncState.__dataclass_fields__)


def load_state(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> SyncState:
    """Return the state of an endpoint; the empty one before its first sync."""
    row = connection.execute(
        f"select {', '.join(_COLUMNS)} from replica.sync_state where endpoint = ?", [endpoint.name]
    ).fetchone()
    return SyncState(*row) if row else SyncState()


def save_state(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, state: SyncState) -> None:
    """Replace the state of an endpoint, within the caller's transaction."""
    connection.execute("delete from replica.sync_state where endpoint = ?", [endpoint.name])
    connection.execute(
        f"insert into replica.sync_state (endpoint, {', '.join(_COLUMNS)}) "
        f"values (?{', ?' * len(_COLUMNS)})",
        [endpoint.name, *(getattr(state, column) for column in _COLUMNS)],
    )


def has_seen(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> bool:
    """Whether a full walk under way has noted keys."""
    row = connection.execute("select 1 from replica.walk_seen where endpoint = ? limit 1", [endpoint.name]).fetchone()
    return row is not None


def forget_seen(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> None:
    """Drop the keys that a full walk has noted."""
    if has_seen(connection, endpoint):
        # Rows that are deleted would take memory until the file is closed, 100 MB for ten million.
        connection.execute(
            f"create or replace table replica.walk_seen as from replica.walk_seen where endpoint <> '{endpoint.name}'"
        )


def pending_days(connection: duckdb.DuckDBPyConnection) -> list[date]:
    """Return the days whose marts are behind the replica, in order."""
    rows = connection.execute("select distinct date_day from replica.pending_days order by 1").fetchall()
    return [row[0] for row in rows]


def add_pending_days(connection: duckdb.DuckDBPyConnection, days: list[date]) -> None:
    """Ask for days to be rebuilt by the next mart build."""
    connection.execute("insert into replica.pending_days select unnest(?::date[])", [days])


def clear_pending_days(connection: duckdb.DuckDBPyConnection, days: list[date]) -> None:
    """Forget days that were rebuilt; days that came up meanwhile stay."""
    connection.execute("delete from replica.pending_days where date_day in (select unnest(?::date[]))", [days])


def load_note(connection: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """Return what was noted under a name, for instance what the marts were last built with."""
    row = connection.execute("select value from replica.notes where name = ?", [name]).fetchone()
    return row[0] if row else None


def save_note(connection: duckdb.DuckDBPyConnection, name: str, value: str | None) -> None:
    """Note a value under a name; None removes it."""
    connection.execute("delete from replica.notes where name = ?", [name])
    if value is not None:
        connection.execute("insert into replica.notes values (?, ?)", [name, value])
