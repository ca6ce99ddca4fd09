"""The sandbox's account at one instant: every record as it stands on the wire, ready to be served.

History is folded into it as time advances; tests edit it directly.
"""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import count
from threading import RLock
from typing import Any, NamedTuple

import orjson
from sortedcontainers import SortedKeyList

from smileback_pipeline.sandbox.history import START, History
from smileback_pipeline.sandbox.instants import TIMEZONE, day_begins, microseconds, stamp
from smileback_pipeline.sandbox.lives import Event, Life

ENDPOINTS = (
    "reviews",
    "nps-responses",
    "prj-responses",
    "csat-agents",
    "csat-boards",
    "csat-companies",
    "csat-contacts",
    "nps-campaigns",
    "prj-surveys",
)

Key = int | str


class Row(NamedTuple):
    """A record as it is served: `filed` orders a list and is what its `…_since` filter compares."""

    filed: int  # microseconds since 1970: last_modified, created_at or date
    order: int  # breaks ties, and is the order by id
    key: Key
    is_rated: bool
    body: bytes


def _filing(row: Row) -> tuple[int, int]:
    return row[:2]


class Table:
    """The rows of one endpoint, in the order of their filing."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Row] = {}
        self.rows: Any = SortedKeyList(key=_filing)
        self.rated: Any = SortedKeyList(key=_filing)

    def put(self, rows: Iterable[Row]) -> None:
        """Insert, or replace by key. Keys are distinct within one call."""
        rows = list(rows)
        for row in rows:
            self.remove(row.key)
        self.by_key.update((row.key, row) for row in rows)
        self.rows.update(rows)
        self.rated.update(row for row in rows if row.is_rated)

    def remove(self, key: Key) -> None:
        row = self.by_key.pop(key, None)
        if row is not None:
            self.rows.remove(row)
            if row.is_rated:
                self.rated.remove(row)


class _Upcoming(NamedTuple):
    at: int
    number: int  # no two have the same, so that comparing goes no further
    life: Life
    event: Event


class World:
    """An account of SmileBack as it stands at `now`.

    The same seed, scale and instant give the same bytes in every process, however the instant was reached. Records
    are dicts as on the wire. Everything here may be called from any thread while a server serves the world.
    """

    timezone = TIMEZONE

    def __init__(
        self, seed: int = 7, *, now: datetime | None = None, scale: float = 1.0, start: date | None = START
    ) -> None:
        """`now` defaults to the wall clock; without a `start` nothing ever happens by itself."""
        self.tables = {endpoint: Table() for endpoint in ENDPOINTS}
        self.lock = RLock()
        self.now = datetime.min.replace(tzinfo=UTC)
        self.history = History(seed, start, scale) if start else None
        self._next_day = start or date.max
        self._upcoming: list[_Upcoming] = []
        self._number = count()
        self.advance(to=now or datetime.now(UTC))

    @classmethod
    def empty(cls, *, now: datetime | None = None) -> "World":
        """An account in which there is nothing but what tests put there."""
        return cls(now=now, start=None)

    def advance(self, *, to: datetime) -> None:
        """Let everything happen up to the instant `to` (aware). Time never runs back: an earlier one is ignored."""
        with self.lock:
            if to <= self.now:
                return
            until = microseconds(to)
            while self.history and day_begins(self._next_day) <= until:
                self._begin(self.history.lives_beginning_on(self._next_day), until)
                self._next_day += timedelta(days=1)
            while self._upcoming and self._upcoming[0].at <= until:
                _, _, life, event = heappop(self._upcoming)
                self._happen(life, event)
            self.now = to

    def _begin(self, lives: Iterable[Life], until: int) -> None:
        rows: dict[str, list[Row]] = {}
        for life in lives:
            record: dict[str, Any] | None = None
            at = 0
            for event in life.events:
                if event.at > until:
                    heappush(self._upcoming, _Upcoming(event.at, next(self._number), life, event))
                elif event.fields is None:
                    record = None
                else:
                    record = event.fields if record is None else record | event.fields
                    at = event.at
            if record is not None:
                rows.setdefault(life.endpoint, []).append(_filed(life.endpoint, life.key, record, at))
        for endpoint, batch in rows.items():
            self.tables[endpoint].put(batch)

    def _happen(self, life: Life, event: Event) -> None:
        table = self.tables[life.endpoint]
        row = table.by_key.get(life.key)
        if event.fields is None:
            table.remove(life.key)
        elif event is life.events[0]:
            table.put([_filed(life.endpoint, life.key, event.fields, event.at)])
        elif row is not None:  # else a test has removed it
            table.put([_filed(life.endpoint, life.key, orjson.loads(row.body) | event.fields, event.at)])

    # For tests

    def put(self, endpoint: str, record: dict[str, Any], *, filed_at: datetime | None = None) -> None:
        """Insert a record, or replace the one with its id, exactly as it shall be served, right or wrong.

        `filed_at` is the instant by which the server sorts and filters it: the record's own stamp unless given, and
        `now` where that cannot be read.
        """
        with self.lock:
            key = _key_of(endpoint, record)
            if type(key) not in (int, str):
                key = f"without id {next(self._number)}"
            filed = microseconds(filed_at or _own_stamp(endpoint, record) or self.now)
            self.tables[endpoint].put([_row(endpoint, key, record, filed)])

    def get(self, endpoint: str, key: Key) -> dict[str, Any]:
        with self.lock:
            return orjson.loads(self.tables[endpoint].by_key[key].body)

    def edit_review(self, review_id: int, *, at: datetime | None = None, **changes: Any) -> None:
        """Replace fields of a review and stamp its `last_modified`; `at` (else `now`) may lie in the past or future."""
        with self.lock:
            record = self.get("reviews", review_id) | changes
            self.tables["reviews"].put([_filed("reviews", review_id, record, microseconds(at or self.now))])

    def remove(self, endpoint: str, key: Key) -> None:
        """Take a record out without a trace."""
        with self.lock:
            if key not in self.tables[endpoint].by_key:
                raise KeyError(f"{endpoint} has no record {key!r}")
            self.tables[endpoint].remove(key)

    def live(self, endpoint: str) -> list[dict[str, Any]]:
        """The records that a perfect replica holds (all but the deleted reviews), in the order of their stamps."""
        with self.lock:
            records = [orjson.loads(row.body) for row in self.tables[endpoint].rows]
        return [record for record in records if record.get("status") != "deleted"]


def _filed(endpoint: str, key: Key, record: dict[str, Any], at: int) -> Row:
    """The row of a well-formed record after an event at `at`."""
    if endpoint == "reviews":
        record = record | {"last_modified": stamp(at)}
        return _row(endpoint, key, record, at)
    own = _own_stamp(endpoint, record)
    return _row(endpoint, key, record, microseconds(own) if own else 0)


def _row(endpoint: str, key: Key, record: dict[str, Any], filed: int) -> Row:
    order = int(key) if re.fullmatch(r"-?\d+", str(key)) else _hash(str(key))
    body = bytes(memoryview(orjson.dumps(record)))  # orjson's own keeps its buffer of 4 kB
    return Row(filed, order, key, record.get("rating") is not None, body)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest())


def _key_of(endpoint: str, record: dict[str, Any]) -> Any:
    record = record.get("response") or {} if endpoint == "prj-responses" else record
    return record.get("id")


def _own_stamp(endpoint: str, record: dict[str, Any]) -> datetime | None:
    value: Any
    match endpoint:
        case "reviews":
            value = record.get("last_modified")
        case "nps-responses":
            value = record.get("created_at")
        case "prj-responses":
            value = (record.get("response") or {}).get("date")
        case _:
            return None
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
