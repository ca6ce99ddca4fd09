"""The walk: reading a whole list, or all of it since an instant, through pages, without losing a record.

Offset paging over a list that is ordered by `last_modified` skips a record for each one that is edited
meanwhile, since the edited one moves to the end and the others close the gap. So where pages come in
ascending order the walk moves by key: it asks again from the newest stamp it has seen. It moves by offset
only among records of one stamp that fill more than a page, and through lists that come in another order;
there each page overlaps the one before by a few records, and the records seen must amount to the records there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from smileback_pipeline.api.errors import UnsettledError
from smileback_pipeline.api.pages import Page

# The API's stamps have microseconds. Each request asks from one step earlier than the walk needs, so that
# `modified_since` may mean "at or after" or "after": nobody has said which.
_STEP = timedelta(microseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + _STEP
# A server that shows a list in a new order at each request gives all of it, twice, in about this many passes.
_PASSES = 40
# A list that came out the same so often will come out the same again.
_REPEATS = 2
# Records that pages of an unordered list share: one can stand where the page before ended by chance, so many cannot.
_OVERLAP = 5
_LOOKS = 3
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
    """One walk over a list, or over its records at or after an instant, as an iterable of chunks.

    When it is exhausted, it was complete.

    Raises UnsettledError if the list never comes out complete, and what fetching a page raises.
    """

    def __init__(self, fetch: FetchPage, *, since: datetime | None) -> None:
        self._fetch = lambda since, offset: fetch(since and max(since, _EARLIEST) - _STEP, offset)
        self._since = since
        self._newest: datetime | None = None
        self.is_in_order = False
        """Whether the list came in ascending order, so that what was changed meanwhile came once more at its end."""

    def __iter__(self) -> Iterator[Chunk]:
        page = self._fetch(self._since, 0)
        if not _is_in_order(page, self._since):
            yield from self._by_offset(self._since, page)
        elif not (yield from self._by_key(page)):
            yield from self._by_offset(self._since, self._fetch(self._since, 0))
        else:
            self.is_in_order = True

    def _by_key(self, page: Page) -> Generator[Chunk, None, bool]:
        """Walk by stamp; return whether the order held all the way and nothing was out of its sight."""
        since, offset = self._since, 0
        looks = 1
        while True:
            newest = _newest(page)
            is_stuck = since is not None and newest is not None and newest <= since
            yield self._chunk(page, since)
            if page.is_last(offset):
                return True
            if newest is None:
                return False
            if is_stuck:
                found = yield from self._by_offset(since, page, beyond=max(filter(None, (newest, since))))
                if found is None:
                    return True
                page, offset = found
                if not _is_in_order(page, since):
                    return False
                newest = _newest(page)
                assert newest is not None
            # What lies ahead by the order. Records without a stamp are in the whole list, but in no filtered one.
            ahead = page.count - offset - sum(stamp is None or stamp < newest for stamp in page.stamps)
            page, offset = self._fetch(newest, 0), 0
            if not _is_in_order(page, newest):
                return False
            # What is in no filtered list must not hide behind what was added meanwhile.
            if page.count == ahead or (page.count > ahead and since is not None):
                since, looks = newest, 1
            elif looks == _LOOKS:
                return False
            else:
                # Some were removed meanwhile, or they lie behind: the same two pages once more will tell.
                looks += 1
                page = self._fetch(since, 0)
                if not _is_in_order(page, since):
                    return False

    def _by_offset(
        self, since: datetime | None, page: Page, beyond: datetime | None = None
    ) -> Generator[Chunk, None, tuple[Page, int] | None]:
        """Walk by position: to the end of the list, or to the first record with a stamp after `beyond`.

        Returns the page where such a record was found and its offset, None at the end of the list.
        """
        size = len(page)
        seen: set[bytes] = set()
        seen_before: set[bytes] = set()
        last_pass: list[bytes] = []
        repeats = 0
        count = page.count
        for number in range(_PASSES):
            if page.count != count:
                # What went since the pass before is not to be counted with what is there.
                seen = set()
            this_pass = _Pass(page.count)
            offset = steps_back = asked = 0
            has_stepped_back = False
            while True:
                yield self._chunk(page, since if beyond else None)
                end = _position_beyond(page, beyond)
                this_pass.places[offset : offset + end] = page.keys[:end]
                overlap = this_pass.overlap_with(page.keys[:end])
                if this_pass.brings_nothing(page) and not has_stepped_back:
                    # Past the end, whatever `next` and `count` say; or the offset was ignored; or the order is none.
                    this_pass.is_contiguous &= offset + len(page) >= page.count
                    this_pass.confirm(min(asked, end), overlap or 0)
                    break
                is_joined = overlap is not None
                if not is_joined and steps_back < _PASSES and not has_stepped_back:
                    # The list has become shorter before this page: what lies between has moved up.
                    has_stepped_back = True
                    steps_back += 1
                    # What is only read again, in the same place, tells nothing of the order.
                    asked = 0
                    offset = max(0, offset - max(1, len(page) - 1))
                else:
                    has_stepped_back = False
                    this_pass.add(page.keys[:end], page.count)
                    this_pass.confirm(asked, overlap or 0)
                    if not is_joined:
                        this_pass.is_contiguous = False
                        steps_back = _PASSES
                    if end < len(page) or page.is_last(offset):
                        break
                    # Another overlap each time shows records that an unstable order hides at the same offsets.
                    asked = max(1, min(_OVERLAP, len(page) // 2)) + (number if len(page) == size else 0)
                    offset += max(1, len(page) - asked)
                page = self._fetch(since, offset)
            count = page.count
            walked = offset + end
            there = walked if end < len(page) else max(page.count, walked)
            seen.update(this_pass.keys)
            found = len(seen)
            repeats = repeats + 1 if this_pass.places == last_pass else 0
            # Where pages do not join, or seem to by chance, the order is not one, and records that went may stand in
            # for missing ones: the list has to come out the same twice.
            is_whole = found == there and (this_pass.is_ordered or seen == seen_before)
            has_only_changed = this_pass.is_ordered and this_pass.has_changed
            # The same id twice in a list makes it look longer than it is, each time at the same places, although the
            # pages are cut elsewhere each time.
            has_twins = this_pass.is_contiguous and repeats == _REPEATS and walked == there
            if is_whole or has_only_changed or has_twins:
                return (page, offset) if end < len(page) else None
            if repeats == _REPEATS:
                break
            if found == there:
                seen_before, seen = seen, set()
            elif found > there or this_pass.has_changed:
                seen = set()
            last_pass = this_pass.places
            page = self._fetch(since, 0)
        raise UnsettledError(
            f"The list says that it has {there:,} records, but {found:,} came out of reading it; it "
            f"was read {number + 1} times. Either it changes faster than it can be read, or SmileBack's paging is "
            "broken. Nothing was removed and the watermark stays; try again later."
        )

    def _chunk(self, page: Page, resume_from: datetime | None) -> Chunk:
        self._newest = max(filter(None, (self._newest, _newest(page))), default=None)
        return Chunk(page, self._newest, resume_from)


class _Pass:
    """One reading of a list by position: whether its pages join without a gap."""

    def __init__(self, count: int) -> None:
        self.keys: set[bytes] = set()
        self.places: list[bytes] = []
        """What was seen where in the list."""
        self.is_contiguous = True
        self.has_changed = False
        self._trail: list[bytes] = []
        self._count = count
        self._asked = self._overlapping = 0

    def brings_nothing(self, page: Page) -> bool:
        """Whether all records of a further page have come before."""
        return bool(self._trail) and all(key in self.keys for key in page.keys)

    @property
    def is_ordered(self) -> bool:
        """Whether its pages join, and not by chance: enough records came twice, in one order."""
        return self.is_contiguous and self._overlapping >= min(_OVERLAP, self._asked)

    def overlap_with(self, keys: Sequence[bytes]) -> int | None:
        """With how many of those before, in their order, further records begin; None if they do not."""
        if not self._trail:
            return 0
        if not keys or keys[0] not in self._trail:
            return None
        start = len(self._trail) - self._trail[::-1].index(keys[0]) - 1
        further = set(keys)
        again = [key for key in self._trail[start:] if key in further]
        return len(again) if list(keys[: len(again)]) == again else None

    def confirm(self, asked: int, overlap: int) -> None:
        """Note how many records were asked for again, and how many of them came, in their order."""
        self._asked += asked
        self._overlapping += min(asked, overlap)

    def add(self, keys: Sequence[bytes], count: int) -> None:
        self.has_changed |= count != self._count
        self.keys.update(keys)
        self._trail = [*self._trail, *keys][-3 * len(keys) :]


def _newest(page: Page) -> datetime | None:
    return max((stamp for stamp in page.stamps if stamp is not None), default=None)


def _is_in_order(page: Page, since: datetime | None) -> bool:
    """Whether the page can be the beginning of a list that ascends by its stamp, after `since`."""
    stamps = [stamp for stamp in page.stamps if stamp is not None]
    if not stamps:
        return not page.keys and page.is_last(0)
    if since is not None and since - stamps[0] > _FILTER_TOLERANCE:
        return False
    return all(earlier <= later for earlier, later in itertools.pairwise(stamps))


def _position_beyond(page: Page, beyond: datetime | None) -> int:
    """The place of the first record with a stamp after `beyond`; the length of the page if it has none."""
    if beyond is None:
        return len(page)
    return next(
        (place for place, stamp in enumerate(page.stamps) if stamp is not None and stamp > beyond), len(page)
    )
