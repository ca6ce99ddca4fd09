"""The sandbox's data endpoints: filters, order and paging of a list, as Django REST framework does them."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, Literal
from urllib.parse import urlencode

import orjson
from starlette.datastructures import QueryParams

from smileback_pipeline.sandbox.instants import microseconds
from smileback_pipeline.sandbox.world import Row, World

DEFAULT_LIMIT = 20

Order = Literal["last_modified", "-last_modified", "id", "random"]


@dataclass(frozen=True)
class ListOptions:
    """What no source says of SmileBack, so that a client can be tried under every answer."""

    max_limit: int = 1000
    reviews_order: Order = "last_modified"  # "random" shuffles anew for each request
    since_is_inclusive: bool = True


class FilterError(Exception):
    """A filter's value that cannot be read; `body` is that of the 400."""

    def __init__(self, name: str, message: str) -> None:
        self.body = {name: [message]}


def page(world: World, endpoint: str, query: QueryParams, url: str, options: ListOptions) -> bytes:
    """The body of the answer; `url` is the endpoint's absolute one, without a query. Raises FilterError."""
    with world.lock:
        rows = _select(world, endpoint, query, options)
        count = len(rows)
        limit = min(_whole(query.get("limit"), minimum=1) or DEFAULT_LIMIT, options.max_limit)
        offset = _whole(query.get("offset"), minimum=0) or 0
        results = b",".join([row.body for row in rows[offset : offset + limit]])

    def link(to: int) -> bytes:
        fields = dict(query) | {"limit": str(limit), "offset": str(to)}
        if to <= 0:
            del fields["offset"]
        return orjson.dumps(f"{url}?{urlencode(sorted(fields.items()))}")

    next_url = link(offset + limit) if offset + limit < count else b"null"
    previous_url = link(offset - limit) if offset > 0 else b"null"
    return b'{"count":%d,"next":%b,"previous":%b,"results":[%b]}' % (count, next_url, previous_url, results)


def _select(world: World, endpoint: str, query: QueryParams, options: ListOptions) -> Sequence[Row]:
    table = world.tables[endpoint]
    match endpoint:
        case "reviews":
            is_all = query.get("include_unrated", "").lower() in ("true", "1")
            rows = _since(table.rows if is_all else table.rated, query, "modified_since", options)
            return _ordered(rows, options.reviews_order)
        case "nps-responses":
            return _nps(_since(table.rows, query, "created_since", options), query)
        case _:
            return table.rows


def _since(rows: Any, query: QueryParams, name: str, options: ListOptions) -> Sequence[Row]:
    value = query.get(name)
    if not value:
        return rows
    try:
        instant = datetime.fromisoformat(value)
        since = microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise FilterError(name, "Enter a valid date/time.") from None
    first = rows.bisect_key_left((since if options.since_is_inclusive else since + 1, -(1 << 70)))
    return _Tail(rows, first)


class _Tail(Sequence[Row]):
    """The rows from a position on, without copying them for each page."""

    def __init__(self, rows: Any, first: int) -> None:
        self._rows, self._first = rows, first

    def __len__(self) -> int:
        return len(self._rows) - self._first

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return self._rows[self._first + at.start : self._first + at.stop]
        return self._rows[self._first + at]


def _ordered(rows: Sequence[Row], order: Order) -> Sequence[Row]:
    match order:
        case "last_modified":
            return rows
        case "-last_modified":
            return list(rows)[::-1]
        case "id":
            return sorted(rows, key=lambda row: row.order)
        case "random":
            return Random().sample(list(rows), len(rows))


def _nps(rows: Sequence[Row], query: QueryParams) -> Sequence[Row]:
    tests: list[Callable[[dict[str, Any]], bool]] = []
    if campaign := query.get("campaign_name"):
        tests.append(lambda record: record.get("campaign_name") == campaign)
    comparisons = {"score_gt": operator.gt, "score_lt": operator.lt, "score_exact": operator.eq}
    for name, holds in comparisons.items():
        if not (value := query.get(name)):
            continue
        try:
            bound = float(value)
        except ValueError:
            raise FilterError(name, "Enter a number.") from None
        tests.append(partial(_has_score, holds, bound))
    if not tests:
        return rows
    return [row for row in rows if all(test(orjson.loads(row.body)) for test in tests)]


def _has_score(holds: Callable[[float, float], bool], bound: float, record: dict[str, Any]) -> bool:
    score = record.get("score")
    return isinstance(score, int | float) and holds(score, bound)


def _whole(value: str | None, *, minimum: int) -> int | None:
    try:
        number = int(value or "")
    except ValueError:
        return None
    return number if number >= minimum else None
