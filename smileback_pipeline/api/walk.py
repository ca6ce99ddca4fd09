"""The walk: reading a whole list, or all of it since an instant, through pages, without losing a record.

Offset paging over a list that is ordered by `last_modified` skips a record for each one that is edited
meanwhile, since the edited one moves to the end and the others close the gap. So where pages come in
ascending order the walk moves by key: it asks again from the newest stamp it has seen. It moves by offset
only among records of one stamp that fill more than a page, and through lists that come in another order;
there each page overlaps the one before by a record, and the records seen must amount to the records there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from smileback_pipeline.api.errors import UnsettledError
from smileback_pipeline.api.pages import Page

# The API's stamps have microseconds. One step back from the newest stamp asks for its ties once more, so
# that `modified_since` may mean "at or after" or "after": nobody has said which.
_STEP = timedelta(microseconds=1)
# A server that shows a list in a new order at each request gives all of it in about this many passes.
_PASSES = 20
# A filter may be coarser than a stamp; anything older than this was not filtered at all.
_FILTER_TOLERANCE = timedelta(seconds=1)

FetchPage = Callable[[datetime | None, int], Page]
"""Fetches a page by the instant to filter by (None for the whole list) and the offset."""


@dataclass(frozen=True)
class Chunk:
    """A page of the walk. Records can come again in a later chunk; the later one is the newer."""

    page: Page
    newest: datetime | None
    """The newest stamp of the walk until here."""
    resume_from: datetime | None
    """Once this chunk is kept, a walk from here misses nothing; None while only a new start is safe."""


class Walk:
    """One walk over one list, as an iterable of chunks; when it is exhausted, it was complete.

    Raises UnsettledError if the list never comes out complete, and what fetching a page raises.
    """

    def __init__(self, fetch: FetchPage, *, since: datetime | None) -> None:
        self._fetch = fetch
        self._since = since
        self._newest: datetime | None = None

    def __iter__(self) -> Iterator[Chunk]:
        page = self._fetch(self._since, 0)
        if not _is_in_order(page, self._since):
            yield from self._by_offset(self._since, page)
        elif not (yield from self._by_key(page)):
            yield from self._by_offset(self._since, self._fetch(self._since, 0))

    def _by_key(self, page: Page) -> Generator[Chunk, None, bool]:
        """Walk by stamp; return whether the order held all the way and nothing was out of its sight."""
        since = self._since
        while True:
            newest = _newest(page)
            is_stuck = since is not None and newest is not None and newest - _STEP <= since
            yield self._chunk(page, since if is_stuck or newest is None else newest - _STEP)
            if page.is_last(0):
                return True
            if newest is None:
                return False
            if is_stuck:
                assert since is not None
                newest = yield from self._by_offset(since, page, beyond=max(newest, since + _STEP))
                if newest is None:
                    return True
            unfiltered = page if since is None else None
            since = newest - _STEP
            page = self._fetch(since, 0)
            if not _is_in_order(page, since):
                return False
            if unfiltered:
                # Records without a stamp are in the whole list, but in no filtered one.
                left_out = sum(stamp is None or stamp < since for stamp in unfiltered.stamps)
                if page.count < unfiltered.count - left_out:
                    return False

    def _by_offset(
        self, since: datetime | None, page: Page, beyond: datetime | None = None
    ) -> Generator[Chunk, None, datetime | None]:
        """Walk by position: to the end of the list, or to the first record with a stamp after `beyond`.

        Returns the newest stamp of the page where such a record was found, None at the end of the list.
        """
        seen: set[bytes] = set()
        last_pass: set[bytes] = set()
        for _ in range(_PASSES):
            this_pass: set[bytes] = set()
            count_at_start = page.count
            offset = 0
            has_stepped_back = False
            while True:
                if offset and page.keys and page.keys[0] not in this_pass and not has_stepped_back:
                    # The list has become shorter before this page: what lies between has moved up.
                    has_stepped_back = True
                    offset = max(0, offset - len(page))
                    page = self._fetch(since, offset)
                    continue
                has_stepped_back = False
                yield self._chunk(page, since if beyond else None)
                end = _position_beyond(page, beyond)
                this_pass.update(page.keys[:end])
                if end < len(page) or not page.keys or page.is_last(offset):
                    break
                offset += max(1, len(page) - 1)
                page = self._fetch(since, offset)
            seen |= this_pass
            walked = offset + end
            there = walked if end < len(page) else max(page.count, walked)
            # The same id twice in a list makes it look longer than it is, each time in the same way.
            is_stable = this_pass == last_pass and walked == there and page.count == count_at_start
            if len(seen) == there or is_stable:
                return _newest(page) if end < len(page) else None
            if len(seen) > there or page.count != count_at_start:
                seen.clear()
            last_pass = this_pass
            page = self._fetch(since, 0)
        raise UnsettledError(
            f"The list says that it has {there:,} records, but {len(last_pass):,} came out of reading it; it "
            f"was read {_PASSES} times. Either it changes faster than it can be read, or SmileBack's paging is "
            "broken. Nothing was removed and the watermark stays; try again later."
        )

    def _chunk(self, page: Page, resume_from: datetime | None) -> Chunk:
        self._newest = max(filter(None, (self._newest, _newest(page))), default=None)
        return Chunk(page, self._newest, resume_from)


def _newest(page: Page) -> datetime | None:
    return max((stamp for stamp in page.stamps if stamp is not None), default=None)


def _is_in_order(page: Page, since: datetime | None) -> bool:
    """Whether the page can be the beginning of a list that ascends by its stamp, after `since`."""
    stamps = [stamp for stamp in page.stamps if stamp is not None]
    if not stamps:
        return not page.keys and page.is_last(0)
    if since is not None and stamps[0] < since - _FILTER_TOLERANCE:
        return False
    return all(earlier <= later for earlier, later in itertools.pairwise(stamps))


def _position_beyond(page: Page, beyond: datetime | None) -> int:
    """The place of the first record with a stamp after `beyond`; the length of the page if it has none."""
    if beyond is None:
        return len(page)
    return next(
        (place for place, stamp in enumerate(page.stamps) if stamp is not None and stamp > beyond), len(page)
    )
