"""Landing pages: from a page's text to typed rows in the replica, in SQL that is derived from the endpoint.

Every leaf of a record is first read as text, since DuckDB's typed JSON reader turns what it cannot convert
into null without a word. A value that then does not cast sets its record aside, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import duckdb

from smileback_pipeline.api.client import PAGE_SIZE
from smileback_pipeline.api.pages import Page, in_utf8, repaired
from smileback_pipeline.endpoints import Column, Endpoint, Type
from smileback_pipeline.replica.history import forget_unseen, keep_replaced
from smileback_pipeline.replica.warehouse import PACKED_ROWS, transaction

_RATING_FIELDS = ("question", "rating", "seq_number")
# Bytes that are read at once, for which DuckDB takes up to 35 times as much memory. Of more, less would be found in a
# processor's cache.
_PORTION = 3 * 2**19
# Rows that are compared at once with those that are there. DuckDB holds these in memory then, next to what it takes to
# read the pages of the next batch.
_ROWS_AT_ONCE = 62_000
# DuckDB quotes what it did not expect, and may cut the quotation in the middle of a character.
_UNREADABLE = (duckdb.InvalidInputException, duckdb.ConversionException, UnicodeDecodeError)
# Directly in `unnest`, DuckDB would write all pages down in SQL, to call the column after them: 2 ms a page.
_PAGES = "select decode(unnest(bodies)) as page from (select ?::blob[] as bodies)"
# What most programs can read; DuckDB itself goes further. In every time zone, hence a day less at both ends.
_CALENDAR = "timestamptz '0001-01-02 00:00:00+00' and timestamptz '9999-12-31 00:00:00+00'"


@dataclass(frozen=True)
class Changes:
    """What landing did to the replica, in records."""

    new: int = 0
    changed: int = 0
    deleted: int = 0
    set_aside: int = 0
    days: frozenset[date] = frozenset()
    """Days that rows left or entered."""

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.new + other.new,
            self.changed + other.changed,
            self.deleted + other.deleted,
            self.set_aside + other.set_aside,
            self.days | other.days,
        )

    def __bool__(self) -> bool:
        return self != Changes()


def begin_batch(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, batch: str) -> None:
    """Make room for the records of some pages in a table in memory, empty if it was there."""
    connection.execute(f"create or replace table memory.{batch} {_statements(endpoint).staged_columns}")


def stage(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, batch: str, pages: Sequence[Page]) -> None:
    """Parse, type and check the records of one or more pages, outside a transaction; a later page is the newer one."""
    sql = _statements(endpoint)
    documented, anything = (f"insert into memory.{batch} {select}" for select in (sql.stage_documented, sql.stage))
    portions = list(_portions([page.body for page in pages]))
    try:
        with transaction(connection):
            # Planned once for all of them: that costs as much as reading two pages.
            connection.executemany(documented, [[portion] for portion in portions])
    except _UNREADABLE:
        for portion in portions:
            try:
                connection.execute(anything, [list(map(in_utf8, portion))])
            except _UNREADABLE:
                connection.execute(anything, [list(map(repaired, portion))])


def packed_size(endpoint: Endpoint, pages: Sequence[Page]) -> int:
    """The bytes of as many rows as DuckDB packs together, at most, if they are like those of the longest page."""
    names = len(json.dumps(endpoint.shape(lambda column: ""), separators=(",", ":")))
    values = max((len(page.body) - len(page) * names for page in pages), default=0)
    return values * PACKED_ROWS // PAGE_SIZE


def _portions(bodies: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Pages in groups of up to _PORTION, or of one page that is larger."""
    portion: list[bytes] = []
    for body in bodies:
        if portion and sum(map(len, portion)) + len(body) > _PORTION:
            yield portion
            portion = []
        portion.append(body)
    if portion:
        yield portion


def take(connection: duckdb.DuckDBPyConnection, batch: str) -> None:
    """Make a batch what temporary view `staged` shows, outside a transaction; of each record its last arrival."""
    connection.execute(
        f"""
        create or replace temp table newest as select max(rowid) as staged_row from memory.{batch} group by key;
        delete from memory.{batch} as staged where not exists (select 1 from newest where staged_row = staged.rowid);
        create or replace temp view staged as select rowid, * from memory.{batch}
        """
    )


def find_changes(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> int:
    """Make temp table `changes` of what in `staged` differs from the replica; return how many rows are to go there."""
    row = connection.execute("select coalesce(max(rowid), 0) from staged").fetchone()
    assert row is not None
    into = "create or replace temp table changes as"
    for first in range(0, row[0] + 1, _ROWS_AT_ONCE):
        connection.execute(
            f"""
            create or replace temp view part as
            select * from staged where rowid between {first} and {first + _ROWS_AT_ONCE - 1};
            {_statements(endpoint).find_present};
            {into} {_statements(endpoint).compare};
            drop table present;
            drop table unmoved
            """
        )
        into = "insert into changes"
    return _count_old_versions(connection)


def upsert(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    *,
    timezone: str,
    keeps_track: bool,
    keeps_history: bool,
) -> Changes:
    """Bring the changes that were found into the replica, within the caller's transaction.

    The days that the rows leave and enter are added to `replica.pending_days`, cut in `timezone`. With
    `keeps_track`, the keys are noted in `replica.walk_seen`, for `find_unseen` at the end of the walk. With
    `keeps_history`, replaced versions stay in `replica.review_versions`.
    """
    sql = _statements(endpoint)
    if keeps_track:
        connection.execute(sql.track)
    keep_replaced(connection, endpoint, is_wanted=keeps_history)
    changes = remove_old_versions(connection, endpoint, timezone=timezone)
    changes += Changes(days=_insert_new_versions(connection, endpoint, timezone))
    connection.execute(sql.settle)
    set_aside = connection.execute(sql.set_aside).fetchone()
    assert set_aside is not None
    return changes + Changes(set_aside=set_aside[0])


def deleted_keys(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the keys of the records in the batch that say that they are deleted."""
    return frozenset(key for (key,) in connection.execute("select key from staged where is_deleted").fetchall())


def find_unseen(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> int:
    """Make temp table `changes` of the rows that a complete walk over the whole list did not show; return their number.

    Of what was set aside and of earlier versions, there are few; they are removed.
    """
    connection.execute(
        f"""
        create or replace temp table changes as
        select id, 'deleted' as change
        from replica.{endpoint.name} as present
        where not exists (
            select 1 from replica.walk_seen as seen
            where seen.endpoint = '{endpoint.name}' and seen.key = present.id::varchar
        )
        """
    )
    connection.execute(
        f"""
        delete from replica.rejected_records as rejected
        where endpoint = '{endpoint.name}' and not exists (
            select 1 from replica.walk_seen as seen
            where seen.endpoint = rejected.endpoint and seen.key = rejected.key
        )
        """
    )
    forget_unseen(connection, endpoint)
    return _count_old_versions(connection)


def remove_old_versions(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, timezone: str) -> Changes:
    """Delete what temp table `changes` replaces or ends, and note the days that it leaves; of `upsert` a part."""
    counts = dict(connection.execute("select change, count(*) from changes group by all").fetchall())
    days: frozenset[date] = frozenset()
    if set(counts) - {"new"}:
        table = f"replica.{endpoint.name}"
        days = _note_days(connection, endpoint, timezone, f"{table} semi join changes using (id)")
        connection.execute(f"delete from {table} using changes where {table}.id = changes.id")
    counts.pop("withdrawn", None)
    return Changes(**counts, days=days)


def _count_old_versions(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute("select count(*) from changes where change <> 'new'").fetchone()
    assert row is not None
    return row[0]


def _insert_new_versions(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, timezone: str
) -> frozenset[date]:
    """Insert what temp table `changes` brings from `staged`; note and return the days that it enters."""
    arrived = (
        "staged semi join (from changes where change in ('new', 'changed')) as arrived on staged.rowid = staged_row"
    )
    days = _note_days(connection, endpoint, timezone, arrived)
    names = ", ".join(f'"{name}"' for name in _content(endpoint))
    connection.execute(
        f"insert into replica.{endpoint.name} ({names}, synced_at) select {names}, current_timestamp from {arrived}"
    )
    return days


def _note_days(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, timezone: str, rows: str
) -> frozenset[date]:
    if not endpoint.day_stamps:
        return frozenset()
    noted = connection.execute(
        f"""
        insert into replica.pending_days
        select distinct (stamp at time zone '{timezone}')::date as date_day
        from (select unnest([{", ".join(endpoint.day_stamps)}]) as stamp from {rows})
        where stamp is not null
        returning date_day
        """
    ).fetchall()
    return frozenset(day for (day,) in noted)


@dataclass(frozen=True)
class _Statements:
    staged_columns: str
    stage: str
    stage_documented: str
    find_present: str
    compare: str
    track: str
    settle: str
    set_aside: str


@lru_cache
def _statements(endpoint: Endpoint) -> _Statements:
    table = f"replica.{endpoint.name}"
    types = ", ".join(f'"{column.name}" {column.type.value}' for column in endpoint.columns)
    stamped = ["id", endpoint.filter.stamp] if endpoint.filter else ["id"]
    return _Statements(
        staged_columns=f"({types}, extra json, key varchar, is_deleted boolean, reason varchar, record json)",
        stage=_stage(endpoint),
        stage_documented=_stage_documented(endpoint),
        # Tables of their own: DuckDB would expect more rows to be there than arrive, and hold those in memory. Of rows
        # with another stamp no more is read, since they have changed: that is all of 10,000,000 for 1,000 changes.
        find_present=f"""
            create temp table present as
            select {", ".join(stamped)} from {table} as present
            where present.id in (select id from part where id is not null);
            create temp table unmoved as
            select unmoved.* from {table} as unmoved
            where unmoved.id in (
                select part.id from part join present
                on {" and ".join(f"part.{name} is not distinct from present.{name}" for name in stamped)}
            )
        """,
        compare=f"""
            select
                part.rowid as staged_row, part.id,
                case
                    when part.is_deleted then 'deleted'
                    when part.reason is not null then 'withdrawn'
                    when present.id is null then 'new'
                    else 'changed'
                end as change
            from part
            left join present on part.id = present.id
            left join unmoved on part.id = unmoved.id
            where case
                when part.is_deleted or part.reason is not null then present.id is not null
                else
                    unmoved.id is null
                    or ({", ".join(f'part."{name}"' for name in _content(endpoint))})
                    is distinct from ({", ".join(f'unmoved."{name}"' for name in _content(endpoint))})
            end
        """,
        track=f"""
            insert into replica.walk_seen select '{endpoint.name}', key from staged where not is_deleted
        """,
        settle=f"""
            delete from replica.rejected_records as rejected using staged
            where
                rejected.endpoint = '{endpoint.name}' and rejected.key = staged.key
                and (staged.is_deleted or (staged.reason, staged.record::varchar)
                is distinct from (rejected.reason, rejected.record::varchar))
        """,
        set_aside=f"""
            insert into replica.rejected_records
            select '{endpoint.name}', key, record, reason, current_timestamp
            from staged
            where reason is not null and not is_deleted and not exists (
                select 1 from replica.rejected_records as rejected
                where rejected.endpoint = '{endpoint.name}' and rejected.key = staged.key
            )
        """,
    )


def _stage(endpoint: Endpoint) -> str:
    """Stages a page of anything: what has no column becomes `extra`, what cannot be right keeps its JSON."""
    return f"""
        with pages as ({_PAGES}),
        records as (
            select
                unnest(from_json(page, '{json.dumps(_page_type(endpoint))}').results) as r,
                unnest(from_json(page, '{{"results": ["JSON"]}}').results) as record
            from pages
        ),
        typed as (
            select r, record, {_typed(endpoint)} from records
        ),
        checked as (
            select
                {_names(endpoint)},
                {_extra(endpoint)} as extra,
                coalesce(id::varchar, nullif({_leaf(endpoint.key)}, ''), md5(coalesce(record::varchar, 'null'))) as key,
                -- A deletion needs nothing but the id.
                {_is_deleted(endpoint)} and id is not null as is_deleted,
                {_reason([*_value_faults(endpoint), *_shape_faults(endpoint)])} as reason,
                record
            from typed
        )
        select * replace (
            case when not is_deleted then reason end as reason,
            case when reason is not null then coalesce(record, 'null') end as record
        )
        from checked
    """


def _stage_documented(endpoint: Endpoint) -> str:
    """Stages pages that are as documented, without a second look into their JSON; fails if anything is not.

    To make JSON a struct, DuckDB wants each object to have just the fields that it knows.
    """
    return f"""
        with pages as ({_PAGES}),
        records as (
            select unnest(cast(page::json as {_page_type(endpoint)}).results) as r from pages
        ),
        typed as (
            select r, {_typed(endpoint)} from records
        ),
        checked as (
            select
                {_names(endpoint)},
                coalesce(id::varchar, {_leaf(endpoint.key)}) as key,
                {_is_deleted(endpoint)} as is_deleted,
                {" or ".join(f"({condition})" for condition, _ in _value_faults(endpoint))} as is_faulty
            from typed
        )
        select
            {_names(endpoint)},
            null as extra,
            key,
            is_deleted,
            case when is_faulty and (not is_deleted or id is null) then error('a fault')::varchar end as reason,
            null as record
        from checked
    """


def _typed(endpoint: Endpoint) -> str:
    return ", ".join(f'{_cast(column)} as "{column.name}"' for column in endpoint.columns)


def _names(endpoint: Endpoint) -> str:
    return ", ".join(f'"{column.name}"' for column in endpoint.columns)


def _is_deleted(endpoint: Endpoint) -> str:
    if not endpoint.deleted_status:
        return "false"
    status = next(column for column in endpoint.columns if column.name == "status")
    return f"coalesce({_leaf(status)} = '{endpoint.deleted_status}', false)"


def _reason(faults: Iterable[tuple[str, str]]) -> str:
    words = ", ".join(f"case when {condition} then '{words}' end" for condition, words in faults)
    return f"nullif(concat_ws('; ', {words}), '')"


def _content(endpoint: Endpoint) -> list[str]:
    return [*(column.name for column in endpoint.columns), "extra"]


def _page_type(endpoint: Endpoint) -> str:
    """A page as a type, with text leaves; lists of ratings stay JSON, to be looked into."""
    kinds = {Type.TEXTS: "varchar[]", Type.RATINGS: "json"}
    record = _struct(endpoint.shape(lambda column: kinds.get(column.type, "varchar")))
    return f"struct(count json, next json, previous json, results {record}[])"


def _struct(shape: dict[str, Any]) -> str:
    fields = (f'"{name}" {_struct(kind) if isinstance(kind, dict) else kind}' for name, kind in shape.items())
    return f"struct({', '.join(fields)})"


def _leaf(column: Column) -> str:
    return "r" + "".join(f'."{part}"' for part in column.path.split("."))


def _cast(column: Column) -> str:
    """The typed value of a leaf; null where it cannot be had, which `_faults` then reports."""
    raw = _leaf(column)
    match column.type:
        case Type.TEXT:
            return f"nullif({raw}, '')" if column.name == "id" else raw
        case Type.TEXTS:
            return raw
        case Type.RATINGS:
            parts = json.dumps([dict.fromkeys(_RATING_FIELDS, "VARCHAR")])
            return f"try_cast(from_json({raw}, '{parts}') as {column.type.value})"
        case Type.INSTANT | Type.BOOLEAN:
            return f"try_cast({raw} as {column.type.value})"
        case _:
            # A cast would round 1.7 to 2: an id would be another record's.
            cast = f"try_cast({raw} as {column.type.value})"
            is_whole = f"{cast}::varchar = {raw} or regexp_full_match({raw}, '-?[0-9]{{1,18}}(\\.0+)?')"
            return f"case when {is_whole} then {cast} end"


def _value_faults(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """When a record cannot be right, as SQL, and in words."""
    for column in endpoint.columns:
        if fault := _fault(column):
            yield fault[0], f"{column.path} {fault[1]}"
        if column.is_required:
            yield f"coalesce({_leaf(column)}, '') = ''", f"{column.path} is missing"
    if endpoint.day_stamps:
        stamps = [column for column in endpoint.columns if column.name in endpoint.day_stamps]
        no_day = " and ".join(f"{_leaf(column)} is null" for column in stamps)
        words = " and ".join(column.path for column in stamps)
        yield no_day, f"no day to count it in: {words} missing"


def _shape_faults(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """The same for values that have to be lists or objects."""
    for column in endpoint.columns:
        if column.type is Type.TEXTS:
            yield _is_other_than("ARRAY", column.path, f"{_leaf(column)} is null"), f"{column.path} is not a list"
    for path in _object_paths(endpoint):
        # What is no object reads as one whose leaves are all null.
        first = next(column for column in endpoint.columns if column.path.startswith(f"{path}."))
        is_suspect = f"{_leaf(first)} is null and {_leaf(Column(path))} is not null"
        yield _is_other_than("OBJECT", path, is_suspect), f"{path} is not an object"


def _is_other_than(kind: str, path: str, is_suspect: str) -> str:
    """Whether a value is there and of another kind; only where that is suspected, it is worth a look into the JSON."""
    return f"case when {is_suspect} then coalesce(json_type(record, '$.{path}'), 'NULL') not in ('{kind}', 'NULL') end"


def _fault(column: Column) -> tuple[str, str] | None:
    """When a leaf cannot be right, given the leaf as text and the column that was cast from it; and in words."""
    raw, cast = _leaf(column), f'"{column.name}"'
    match column.type:
        case Type.TEXT | Type.TEXTS:
            return None
        case Type.RATINGS:
            assert column.between
            low, high = column.between
            allowed = ", ".join(map(str, range(low, high + 1)))
            return (
                f"{raw} is not null and case when json_type({raw}) <> 'ARRAY' then json_type({raw}) <> 'NULL' "
                f"else len(list_filter(from_json({raw}, '[\"JSON\"]'), lambda x: "
                "json_type(x) is distinct from 'OBJECT' "
                "or coalesce(x ->> 'question', '') = '' "
                "or not regexp_full_match(coalesce(x ->> 'seq_number', '0'), '-?[0-9]{1,9}') "
                f"or coalesce(try_cast(x ->> 'rating' as double) not in ({allowed}), "
                "(x ->> 'rating') is not null))) > 0 end",
                f"is not a list of questions with ratings of {low} to {high}",
            )
        case Type.INSTANT:
            return f"{raw} is not null and not coalesce({cast} between {_CALENDAR}, false)", "is not a readable time"
        case Type.BOOLEAN:
            return f"{raw} is not null and {cast} is null", "is neither true nor false"
        case _:
            if column.between is None:
                return f"{raw} is not null and {cast} is null", "is not a number"
            low, high = column.between
            return (
                f"{raw} is not null and not coalesce({cast} between {low} and {high}, false)",
                f"is not a whole number from {low} to {high}",
            )


def _object_paths(endpoint: Endpoint) -> list[str]:
    """Paths of the objects in a record, inner ones last."""
    paths = {column.path.rsplit(".", depth)[0] for column in endpoint.columns for depth in range(1, 4)}
    return sorted(paths - {column.path for column in endpoint.columns})


def _extra(endpoint: Endpoint) -> str:
    """What of the record has no column, as JSON in the shape it came; null if nothing."""
    known = endpoint.shape(lambda column: None)
    objects = {"$": list(known)} | {f"$.{path}": list(_at(known, path)) for path in _object_paths(endpoint)}
    rest = f"json_merge_patch(record, '{json.dumps(known)}')::varchar"
    for path in reversed(_object_paths(endpoint)):
        # Merging leaves an empty object where one was known; inner ones go first.
        empty = f'"{path.rsplit(".", maxsplit=1)[-1]}":\\{{\\}}'
        rest = f"regexp_replace({rest}, ',{empty}|{empty},?', '', 'g')"
    # Comparing keys is cheap, and all there is to do for a record as the documentation has it.
    return f"case when json_keys(record, {list(objects)}) <> {list(objects.values())} then nullif({rest}, '{{}}') end"


def _at(tree: dict[str, Any], path: str) -> dict[str, Any]:
    for part in path.split("."):
        tree = tree[part]
    return tree
