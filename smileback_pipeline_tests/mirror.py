"""Whether a replica says what SmileBack says, told from the records on the wire; and syncs without Dagster and dbt.

Shares nothing with the landing: how a record becomes a row is worked out here from the record itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from smileback_pipeline.api.client import Patience, SmileBackClient
from smileback_pipeline.endpoints import ENDPOINTS, Endpoint
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.replication import Replicated, replicate
from smileback_pipeline.sandbox import Sandbox, World
from smileback_pipeline.settings import Settings, validated_settings
from smileback_pipeline_tests import oracle

Row = dict[str, Any]

# Tests wait for no backoff.
IMPATIENT = Patience(attempts=3, first_wait_seconds=0)
_OURS = ("extra", "synced_at")
_STAMPS = {"reviews": "last_modified", "nps-responses": "created_at"}


@dataclass
class Customer:
    """Somebody who replicates a SmileBack into a directory. Each sync is a new client and a new warehouse."""

    sandbox: Sandbox
    directory: Path
    patience: Patience = IMPATIENT
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that are not as the sandbox has them."""
    waits: list[float] = field(default_factory=list)
    """Seconds of each wait that SmileBack or the quota imposed."""

    @property
    def file(self) -> Path:
        return self.directory / "warehouse.duckdb"

    @property
    def settings(self) -> Settings:
        environment = self.sandbox.environment()
        account = {name.removeprefix("SMILEBACK_").lower(): value for name, value in environment.items()}
        return validated_settings(
            **account
            | {"duckdb_path": self.file, "token_path": self.directory / "tokens.json", "timezone": "Europe/Berlin"}
            | self.changes
        )

    def sync(
        self,
        endpoints: Iterable[Endpoint] = ENDPOINTS,
        *,
        since: datetime | None = None,
        full: bool = False,
        progress: Callable[..., None] = lambda *, read, expected: None,
    ) -> dict[str, Replicated]:
        """Replicate the endpoints one after the other, by name; raises what the first that fails raises."""
        settings = self.settings
        warehouse = Warehouse(self.file, patience_seconds=20, on_wait=lambda message: None)
        with SmileBackClient(settings, patience=self.patience, on_wait=self.waits.append) as client, closing(warehouse):
            return {
                endpoint.name: replicate(
                    endpoint, client, warehouse, settings, since=since, full=full, progress=progress
                )
                for endpoint in endpoints
            }

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.file, sql)

    def later(self, time: timedelta) -> None:
        """Let what was done be that much longer ago."""
        with closing(duckdb.connect(self.file)) as connection:
            columns = ("walk_started_at", "read_whole_at", "reread_at", "synced_at")
            moved = ", ".join(f"{column} = {column} - to_microseconds(?)" for column in columns)
            connection.execute(
                f"update replica.sync_state set {moved}", [time // timedelta(microseconds=1)] * len(columns)
            )


def query(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(file, read_only=True)) as connection:
        return connection.execute(f"set TimeZone = 'UTC'; {sql}").fetchall()


def assert_replica_equals(world: World, file: Path, *, is_published: bool = False) -> None:
    """Every live record once, field by field as the server has it; nothing else; and nothing left to go on with."""
    for endpoint, records in oracle.records_of(world).items():
        rows = _rows(file, endpoint)
        expected = {_key(endpoint, record): record for record in records}
        keys = [str(row["id"]) for row in rows]
        assert len(set(keys)) == len(keys), f"{endpoint} has a record twice"
        missing, surplus = expected.keys() - set(keys), set(keys) - expected.keys()
        assert not (missing or surplus), f"{endpoint}: missing {sorted(missing)[:5]}, surplus {sorted(surplus)[:5]}"
        for row in rows:
            _assert_same(endpoint, row, expected[str(row["id"])])
    if is_published:
        return
    began = query(file, "select endpoint from replica.sync_state where walk_started_at is not null")
    assert began == [], "a walk is said to be under way"
    assert_nothing_is_missing_below_the_watermark(world, file)


def assert_nothing_is_missing_below_the_watermark(world: World, file: Path) -> None:
    """What SmileBack stamped before the saved watermark, and would not be asked for again, is there as it is."""
    watermarks = dict(query(file, "select endpoint, watermark from replica.sync_state where watermark is not null"))
    for endpoint, stamp in _STAMPS.items():
        watermark = watermarks.get(endpoint.replace("-", "_"))
        if watermark is None:
            continue
        newest = max((_instant(r[stamp]) for r in oracle.records_of(world)[endpoint] if r.get(stamp)), default=None)
        assert watermark <= datetime.now(UTC)
        assert newest is None or watermark < newest or world.now > newest, f"{endpoint}: the watermark ran ahead"
        rows = {str(row["id"]): row for row in _rows(file, endpoint)}
        for record in oracle.records_of(world)[endpoint]:
            if record.get(stamp) and _instant(record[stamp]) < watermark:
                key = _key(endpoint, record)
                assert key in rows, f"{endpoint}: {key} is missing below the watermark"
                _assert_same(endpoint, rows[key], record)


def _rows(file: Path, endpoint: str) -> Iterator[Row] | list[Row]:
    with closing(duckdb.connect(file, read_only=True)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        cursor = connection.execute(f"from replica.{endpoint.replace('-', '_')}")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _key(endpoint: str, record: dict[str, Any]) -> str:
    return str((record["response"] if endpoint == "prj-responses" else record)["id"])


def _assert_same(endpoint: str, row: Row, record: dict[str, Any]) -> None:
    """A row against its record: each column is the leaf of its name, and what has no column is in `extra`."""
    leaves = dict(_leaves(record, drops=("response",) if endpoint == "prj-responses" else ()))
    for name, value in row.items():
        if name in _OURS:
            continue
        on_server = leaves.pop(name, None)
        match value:
            case datetime():
                assert value == _instant(on_server), (endpoint, row["id"], name)
            case int() if not isinstance(value, bool):
                assert value == int(on_server), (endpoint, row["id"], name)
            case str():
                assert value == str(on_server), (endpoint, row["id"], name)
            case _:
                assert value == on_server, (endpoint, row["id"], name)
    extra = dict(_leaves(json.loads(row["extra"]))) if row["extra"] else {}
    unknown = {name: value for name, value in leaves.items() if value is not None}
    assert extra == unknown, (endpoint, row["id"], "extra")


def _leaves(record: dict[str, Any], prefix: str = "", drops: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        path = prefix if name in drops else f"{prefix}{name}_"
        if isinstance(value, dict):
            yield from _leaves(value, path)
        else:
            yield path.removesuffix("_"), value


def _instant(stamp: Any) -> datetime:
    instant = datetime.fromisoformat(stamp)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
