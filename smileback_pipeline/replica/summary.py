"""What the replica holds of an endpoint, told without a word that a customer wrote or is called by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from smileback_pipeline.endpoints import Endpoint, Type

_NEWEST_SHOWN = 5
# Text can be personal; numbers, flags and instants are not.
_SHOWN_TYPES = (Type.INTEGER, Type.BIGINT, Type.BOOLEAN, Type.INSTANT)


@dataclass(frozen=True)
class Rejection:
    """A reason why records are set aside."""

    reason: str
    records: int
    example: str | None
    """The id of one of them, if it looks like an id."""
    seen_at: datetime
    """When the first of them came."""


@dataclass(frozen=True)
class Summary:
    """What the replica holds of an endpoint."""

    endpoint: Endpoint
    rows: int
    """Live rows."""
    rejections: tuple[Rejection, ...]
    newest: tuple[dict[str, Any], ...]
    """The rows that came last, without text; empty where that would leave nothing to look at."""
    early: int
    """Rows with a day before the first partition."""
    earliest: datetime | None
    """The first instant of the early rows."""

    @property
    def rejected(self) -> int:
        """Records that are set aside now."""
        return sum(rejection.records for rejection in self.rejections)


def summarize(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, start: datetime) -> Summary:
    """Return what the replica holds of an endpoint; partitions begin at `start`."""
    row = connection.execute(f"select count(*) from replica.{endpoint.name}").fetchone()
    assert row is not None
    return Summary(
        endpoint,
        row[0],
        _rejections(connection, endpoint),
        _newest(connection, endpoint),
        *_early(connection, endpoint, start),
    )


def _rejections(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> tuple[Rejection, ...]:
    rows = connection.execute(
        """
        select
            reason, count(*) as records,
            min(key) filter (regexp_full_match(key, '[0-9a-fA-F-]{1,36}')) as example,
            min(seen_at) as seen_at
        from replica.rejected_records
        where endpoint = ?
        group by reason
        order by records desc, reason
        """,
        [endpoint.name],
    ).fetchall()
    return tuple(Rejection(*row) for row in rows)


def _newest(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> tuple[dict[str, Any], ...]:
    if not endpoint.day_stamps:
        return ()
    names = ["id", *(column.name for column in endpoint.columns if column.type in _SHOWN_TYPES if column.name != "id")]
    cursor = connection.execute(
        f"select {', '.join(names)} from replica.{endpoint.name} order by synced_at desc, id desc limit {_NEWEST_SHOWN}"
    )
    return tuple(dict(zip(names, row, strict=True)) for row in cursor.fetchall())


def _early(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: datetime
) -> tuple[int, datetime | None]:
    if not endpoint.day_stamps:
        return 0, None
    first = f"least({', '.join(endpoint.day_stamps)})"
    row = connection.execute(
        f"select count(*), min({first}) from replica.{endpoint.name} where {first} < ?", [start]
    ).fetchone()
    assert row is not None
    return row[0], row[1]
