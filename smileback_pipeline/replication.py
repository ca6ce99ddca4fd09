"""Replicating one endpoint: the walk on one side, the replica on the other, and a cursor that commits with the rows."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

import duckdb

from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.api.pages import Page
from smileback_pipeline.api.walk import Chunk, Walk
from smileback_pipeline.endpoints import Endpoint
from smileback_pipeline.replica.landing import (
    Changes,
    begin_batch,
    deleted_keys,
    find_changes,
    find_unseen,
    packed_size,
    remove_old_versions,
    stage,
    take,
    upsert,
)
from smileback_pipeline.replica.state import (
    UNPUBLISHED,
    SyncState,
    forget_seen,
    has_seen,
    load_state,
    save_note,
    save_state,
)
from smileback_pipeline.replica.summary import Summary, summarize
from smileback_pipeline.replica.warehouse import Warehouse, transaction
from smileback_pipeline.settings import Settings

# Between one and a half and two of DuckDB's row groups (122,880 rows). From one on, rows go into the file at once and
# not through its log; and a remainder of less than half of one would be packed anew at the next commit, with its
# neighbours. At the real limit, where a page costs 2 s of quota, the seconds decide.
_PAGES_A_COMMIT = 186
_SECONDS_A_COMMIT = 3.0
_PAGES_AT_ONCE = 10
# With fewer, nothing would be fetched for a while whenever pages are staged.
_PAGES_AHEAD = _PAGES_AT_ONCE
_REREAD_EVERY = timedelta(days=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Tally:
    """How many records SmileBack has, and what became of them here."""

    listed: int
    """Records in the whole list when the walk began or, without a filter, when it ended."""
    rows: int
    set_aside: int
    deleted: int
    """Records that are in the list to say that they are deleted."""
    meanwhile: int
    """Records with a stamp after the walk began: the list may have become so much longer or shorter."""

    @property
    def accounted_for(self) -> int:
        """The listed records that are known here."""
        return self.rows + self.set_aside + self.deleted

    @property
    def is_explained(self) -> bool:
        """Whether no more records are missing, or too many, than changes during the walk explain."""
        return abs(self.listed - self.accounted_for) <= self.meanwhile


@dataclass(frozen=True)
class Replicated:
    """What replicating an endpoint did and cost."""

    changes: Changes
    summary: Summary
    """What the replica holds now."""
    tally: Tally | None
    """None unless the whole list was read in one go."""
    requests: int
    waited_seconds: float
    watermark: datetime | None
    resumed_from: datetime | None
    """Where an earlier walk had stopped, if this one went on from there."""


class Progress(Protocol):
    """Hears how far the walk is."""

    def __call__(self, *, read: int, expected: int) -> None:
        """`read` of `expected` records have been landed."""


def replicate(
    endpoint: Endpoint,
    client: SmileBackClient,
    warehouse: Warehouse,
    settings: Settings,
    *,
    since: datetime | None = None,
    full: bool = False,
    progress: Progress = lambda *, read, expected: None,
) -> Replicated:
    """Make the replica of an endpoint say what SmileBack says, by one walk; progress survives any failure.

    `since` reads changes again from an instant, `full` reads everything. Raises ApiError and WarehouseError.
    """
    requests_before, waited_before = client.requests, client.waited_seconds
    with warehouse.connect() as connection:
        before = load_state(connection, endpoint)
        has_noted_keys = has_seen(connection, endpoint)
    state = _begin(endpoint, before, datetime.now(UTC), settings.lookback, since=since, full=full)
    resumed_from = state.walk_from if state.walk_started_at == before.walk_started_at else None
    # Keys are noted to find what is gone. Where nothing was replicated before nothing can be; but a first walk that
    # has to begin again may have landed what is gone by now, and one that goes on does as it did.
    is_first = not has_noted_keys if resumed_from else before == SyncState()
    keeps_track = state.walk_is_full and (before.read_whole_at is not None or not is_first)
    is_whole = state.walk_is_full and state.walk_from is None
    listed: int | None = None
    newest = None
    read = 0
    is_begun = resumed_from is not None
    landed: list[_Landed] = []
    landing: Future[_Landed] | None = None
    # While one batch is landed, pages are staged for the other.
    batch, other = "batch_a", "batch_b"
    with warehouse.beside() as staging, ThreadPoolExecutor(1, "land") as lander:
        for each in (batch, other):
            begin_batch(staging, endpoint, each)
        try:
            for chunks, end in _batches(_walk(endpoint, client, state, settings.lookback)):
                if chunks:
                    pages = [chunk.page for chunk in chunks]
                    warehouse.make_room(packed_size(endpoint, pages))
                    with warehouse.refusals_told():
                        stage(staging, endpoint, batch, pages)
                    newest = chunks[-1].newest
                    state = replace(state, walk_from=chunks[-1].resume_from)
                    # A walk by key filters from its second page on.
                    if is_whole and (listed is None or not endpoint.filter):
                        listed = chunks[0 if endpoint.filter else -1].page.count
                    read += sum(len(chunk.page) for chunk in chunks)
                    progress(read=read, expected=read - len(chunks[-1].page) + chunks[-1].page.count)
                if end is None:
                    continue
                if end is _End.WALK:
                    state = _completed(endpoint, state, newest, settings.lookback)
                if landing:
                    landed.append(landing.result())
                landing = lander.submit(
                    _land,
                    *(endpoint, batch, warehouse, settings, state),
                    begins=not is_begun,
                    ends=end is _End.WALK,
                    keeps_track=keeps_track,
                )
                is_begun = True
                batch, other = other, batch
            assert landing
            landed.append(landing.result())
        except Exception:
            # What went wrong there comes first: it is what keeps progress from being saved.
            if landing:
                landing.result()
            raise
        except BaseException:
            warehouse.hurry()
            raise
    summary = landed[-1].summary
    assert summary
    tally = None
    if listed is not None:
        deleted = frozenset[str]().union(*(each.deleted for each in landed))
        tally = Tally(listed, summary.rows, summary.rejected, len(deleted), landed[-1].meanwhile)
    return Replicated(
        changes=sum((each.changes for each in landed), Changes()),
        summary=summary,
        tally=tally,
        requests=client.requests - requests_before,
        waited_seconds=client.waited_seconds - waited_before,
        watermark=state.watermark,
        resumed_from=resumed_from,
    )


@dataclass(frozen=True)
class _Landed:
    """What became of a batch."""

    changes: Changes
    deleted: frozenset[str]
    """Keys of the records that are in the list to say that they are deleted."""
    summary: Summary | None
    """After the last batch of a walk."""
    meanwhile: int
    """See Tally."""


def _land(
    endpoint: Endpoint,
    batch: str,
    warehouse: Warehouse,
    settings: Settings,
    state: SyncState,
    *,
    begins: bool,
    ends: bool,
    keeps_track: bool,
) -> _Landed:
    """Commit a batch, which begins or ends a walk or does neither, together with the state after it."""
    table = f"replica.{endpoint.name}"
    # Opening the file costs more than most of what is done in it, so the end of the walk is not apart.
    with warehouse.connect() as connection:
        take(connection, batch)
        with transaction(connection):
            if begins:
                forget_seen(connection, endpoint)
            warehouse.make_room_to_delete(find_changes(connection, endpoint), table)
            changes = upsert(
                connection,
                endpoint,
                timezone=settings.timezone,
                keeps_track=keeps_track,
                keeps_history=settings.keep_history,
            )
            if ends and keeps_track:
                with warehouse.in_little_room():
                    unseen = find_unseen(connection, endpoint)
                warehouse.make_room_to_delete(unseen, table)
                changes += remove_old_versions(connection, endpoint, timezone=settings.timezone)
                forget_seen(connection, endpoint)
            save_state(connection, endpoint, state)
            if changes:
                save_note(connection, UNPUBLISHED, f"changes of {endpoint.name}")
        landed = _Landed(
            changes,
            deleted_keys(connection),
            summarize(connection, endpoint, start=settings.start) if ends else None,
            _count_since(connection, endpoint, state.synced_at) if ends else 0,
        )
        # For the batch after the next; until then it would take memory.
        begin_batch(connection, endpoint, batch)
        return landed


def _walk(endpoint: Endpoint, client: SmileBackClient, state: SyncState, lookback: timedelta) -> Iterator[Chunk]:
    """The chunks of the walk that the state says is under way."""

    def fetch(since: datetime | None, offset: int) -> Page:
        return client.fetch_page(endpoint, since=since, offset=offset)

    walk, newest = Walk(fetch, since=state.walk_from), None
    for chunk in walk:
        newest = chunk.newest
        yield chunk
    if endpoint.filter and state.walk_is_full and newest and not walk.is_in_order:
        # What was changed meanwhile may have moved to where the walk had been, and must not be taken for gone.
        assert state.walk_started_at
        for chunk in Walk(fetch, since=_before(min(newest, state.walk_started_at), lookback)):
            yield replace(chunk, newest=max(newest, chunk.newest or newest))


def _begin(
    endpoint: Endpoint,
    before: SyncState,
    now: datetime,
    lookback: timedelta,
    *,
    since: datetime | None,
    full: bool,
) -> SyncState:
    """The state with a walk under way: the one that was cut short where that can go on, or a new one."""
    is_cut_short = before.walk_started_at is not None and (before.walk_is_full or not full)
    if is_cut_short and before.walk_from is not None:
        # Going further back is always safe.
        return replace(before, walk_from=min(filter(None, (before.walk_from, since))))
    is_full = full or endpoint.filter is None or before.watermark is None
    begin = None
    if not is_full:
        assert endpoint.filter
        candidates = [before.watermark, since, before.walk_since if is_cut_short else None]
        if endpoint.filter.reread and now - (before.reread_at or _EPOCH) >= _REREAD_EVERY:
            candidates.append(now - endpoint.filter.reread - lookback)
        begin = min(filter(None, candidates))
    return replace(before, walk_started_at=now, walk_since=begin, walk_from=begin, walk_is_full=is_full)


def _completed(endpoint: Endpoint, state: SyncState, newest: datetime | None, lookback: timedelta) -> SyncState:
    """The state after a complete walk: the watermark moves, but never past what can still become visible late."""
    started_at = state.walk_started_at
    assert started_at is not None
    watermark, reread_at = state.watermark, state.reread_at
    if endpoint.filter:
        if newest is not None:
            watermark = max(filter(None, (watermark, _before(min(newest, started_at), lookback))))
        reread = endpoint.filter.reread
        if reread and (state.walk_since is None or state.walk_since <= started_at - reread):
            reread_at = started_at
    return SyncState(
        watermark=watermark,
        read_whole_at=started_at if state.walk_is_full else state.read_whole_at,
        reread_at=reread_at,
        synced_at=started_at,
    )


def _before(instant: datetime, lookback: timedelta) -> datetime:
    try:
        return instant - lookback
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _count_since(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, instant: datetime | None) -> int:
    """Rows with a stamp at or after an instant; none where there is no stamp."""
    if not endpoint.filter:
        return 0
    row = connection.execute(
        f"select count(*) from replica.{endpoint.name} where {endpoint.filter.stamp} >= ?", [instant]
    ).fetchone()
    assert row is not None
    return row[0]


class _End(Enum):
    """What a group of chunks is the last of."""

    COMMIT = 1
    WALK = 2


def _batches(chunks: Iterator[Chunk]) -> Iterator[tuple[list[Chunk], _End | None]]:
    """Group chunks as they come, while a thread fetches the next ones, and say when to commit; a group may be empty."""
    arrived: queue.Queue[Chunk | BaseException | None] = queue.Queue(maxsize=_PAGES_AHEAD)
    is_abandoned = threading.Event()

    def fetch() -> None:
        end: BaseException | None = None
        try:
            for chunk in chunks:
                arrived.put(chunk)
                if is_abandoned.is_set():
                    return
        except BaseException as error:  # raised again where the chunks are consumed
            end = error
        arrived.put(end)

    # A daemon, since it may be waiting for quota when the run is told to end.
    threading.Thread(target=fetch, name="fetch", daemon=True).start()
    group: list[Chunk] = []
    uncommitted = 0
    due_at = math.inf
    try:
        while True:
            try:
                item = arrived.get(timeout=max(0.0, due_at - time.monotonic()) if uncommitted else None)
            except queue.Empty:
                yield group, _End.COMMIT
                group, uncommitted = [], 0
                continue
            if isinstance(item, Chunk):
                due_at = due_at if uncommitted else time.monotonic() + _SECONDS_A_COMMIT
                group.append(item)
                uncommitted += 1
                if uncommitted == _PAGES_A_COMMIT:
                    yield group, _End.COMMIT
                    group, uncommitted = [], 0
                elif len(group) == _PAGES_AT_ONCE:
                    yield group, None
                    group = []
            elif item is None:
                yield group, _End.WALK
                return
            else:
                if uncommitted:
                    yield group, _End.COMMIT
                raise item
    finally:
        is_abandoned.set()
        with contextlib.suppress(queue.Empty):
            arrived.get_nowait()
