"""Anything that SmileBack, its customers and the machine may do, in any order: what the replica promises holds.

A state machine of edits, faults and syncs over HTTP into a file, without Dagster and dbt. `INVARIANTS=long` makes it
search for some ten minutes, and kills processes as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smileback_pipeline.api.errors import ApiError
from smileback_pipeline.endpoints import ENDPOINTS
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import Action, call, cut, html, reset, respond, rewrite
from smileback_pipeline_tests.mirror import (
    Customer,
    assert_nothing_is_missing_below_the_watermark,
    assert_replica_equals,
    query,
)
from smileback_pipeline_tests.test_replication import put_response, put_review

IS_LONG = os.environ.get("INVARIANTS") == "long"
FIRST = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
SECOND = timedelta(seconds=1)
PATHS = [endpoint.path for endpoint in ENDPOINTS]
# With pages of a few records, a new order each time can look like one order by chance.
PAGINGS = [
    ("last_modified", 7),
    ("last_modified", 20),
    ("last_modified", 1000),
    ("-last_modified", 20),
    ("id", 20),
    ("random", 1000),
]
FAULTS: dict[str, Action] = {
    "an error": respond(500, {"detail": "Down."}),
    "a refusal": respond(403, {"detail": "No."}),
    "a throttle": respond(429, {"detail": "Throttled."}, headers={"Retry-After": "1"}),
    "a long throttle": respond(429, {"detail": "Throttled."}, headers={"Retry-After": "86400"}),
    "a reset": reset(),
    "a cut body": cut(0.6),
    "a cut body that only its JSON tells": cut(0.6, framing="close"),
    "a web page": html(),
    "no results": rewrite(lambda page: {name: value for name, value in page.items() if name != "results"}),
    "a next that ends too early": rewrite(lambda page: page | {"next": None}),
    "a next that leads away": rewrite(lambda page: page | {"next": "http://127.0.0.1:9/?offset=0"}),
    "a login that is refused": respond(401, {"detail": "Authentication credentials were not provided."}),
}
positions = st.integers(0, 10_000)
counts = st.integers(1, 30)


class Abandoned(BaseException):
    """The process is told to stop."""


class Smileback(RuleBasedStateMachine):
    """A SmileBack that lives, and somebody who replicates it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.world = World.empty(now=FIRST)
        self.sandbox: Sandbox = self.stack.enter_context(running_sandbox(self.world))
        self.customer = Customer(self.sandbox, self.directory)
        self.numbers = iter(range(1000, 1_000_000))
        self.stack.enter_context(stamina.set_testing(True, attempts=3, cap=True))
        self.is_quiet = False

    @initialize(paging=st.sampled_from(PAGINGS), reviews=st.integers(0, 120), is_inclusive=st.booleans())
    def begin(self, paging: tuple[Any, int], reviews: int, is_inclusive: bool) -> None:
        self.answer_in(paging, is_inclusive)
        for number in range(1, reviews + 1):
            put_review(self.world, number, FIRST - number * timedelta(minutes=7))
        for number in range(1, 41):
            put_response(self.world, number, FIRST - number * timedelta(hours=9))
            self.world.put("csat-contacts", {"id": str(number), "name": f"Contact {number}"})
            self.world.put("prj-responses", {"response": {"id": f"p{number}", "date": "2026-01-01T00:00:00Z"}})

    def teardown(self) -> None:
        try:
            if self.customer.file.exists():
                self.read_all_in_peace()
        finally:
            self.stack.close()

    # What happens at SmileBack

    def now(self) -> datetime:
        """Each change is stamped when it happens."""
        self.world.advance(to=datetime.now(UTC))
        self.is_quiet = False
        return self.world.now

    def review(self, position: int) -> int | None:
        numbers = sorted(key for key in self.world.tables["reviews"].by_key if isinstance(key, int))
        return numbers[position % len(numbers)] if numbers else None

    def edit_one(self, position: int, at: datetime | None = None, **changes: Any) -> None:
        with self.world.lock:
            now, number = self.now(), self.review(position)
            if number is not None:
                self.world.edit_review(number, at=at or now, **changes)

    @rule(count=counts, has_one_stamp=st.booleans())
    def reviews_come(self, count: int, has_one_stamp: bool) -> None:
        now, apart = self.now(), timedelta(milliseconds=0 if has_one_stamp else 9)
        for number in range(count):
            put_review(self.world, next(self.numbers), now - number * apart)

    @rule(position=positions, rating=st.sampled_from([1, 0, -1, None, "1"]), is_new_to_us=st.booleans())
    def a_review_is_edited(self, position: int, rating: Any, is_new_to_us: bool) -> None:
        more = {"sentiment": {"score": position, "words": ["glad"]}} if is_new_to_us else {}
        self.edit_one(position, rating=rating, comment=f"Edited {position}", **more)

    @rule(position=positions, status=st.sampled_from(["deleted", "open", "done"]))
    def a_review_is_deleted_or_restored(self, position: int, status: str) -> None:
        self.edit_one(position, status=status)

    @rule(position=positions, changes=st.sampled_from([{"rating": 7}, {"rated_on": "yesterday"}, {"rated_on": None}]))
    def a_review_turns_bad_or_good(self, position: int, changes: dict[str, Any]) -> None:
        self.edit_one(position, **({"rating": 1} | changes))

    @rule(position=positions, count=counts)
    def reviews_are_edited_in_bulk(self, position: int, count: int) -> None:
        """All of them get one stamp."""
        with self.world.lock:
            now = self.now()
            for number in range(count):
                self.edit_one(position + number, at=now, tags=[f"bulk {position}"])

    @rule(position=positions, seconds=st.integers(1, 240))
    def a_change_becomes_visible_late(self, position: int, seconds: int) -> None:
        at = self.now() - seconds * SECOND
        self.edit_one(position, at=at, comment=f"{seconds} s late")
        put_review(self.world, next(self.numbers), at)
        put_response(self.world, next(self.numbers), at)

    @rule(stamp=st.sampled_from([None, datetime(2099, 1, 1, tzinfo=UTC)]))
    def a_stamp_is_missing_or_of_the_future(self, stamp: datetime | None) -> None:
        put_review(self.world, next(self.numbers), stamp, filed_at=stamp or self.now())
        self.is_quiet = False

    @rule(path=st.sampled_from(["reviews", "nps-responses", "prj-responses", "csat-contacts"]), position=positions)
    def a_record_vanishes_without_a_trace(self, path: str, position: int) -> None:
        with self.world.lock:
            self.now()
            keys = sorted(self.world.tables[path].by_key, key=str)
            if keys:
                self.world.remove(path, keys[position % len(keys)])

    @rule(number=st.integers(1, 60))
    def the_lists_change(self, number: int) -> None:
        self.now()
        self.world.put("csat-contacts", {"id": str(number), "name": f"Renamed {self.world.now}"})
        response = {"id": f"p{number}", "date": "2026-01-02T00:00:00Z", "comment": f"{self.world.now}"}
        self.world.put("prj-responses", {"response": response})

    # How it answers

    @rule(paging=st.sampled_from(PAGINGS), is_inclusive=st.booleans())
    def answer_in(self, paging: tuple[Any, int], is_inclusive: bool) -> None:
        """Another order, another size of pages, another reading of "since"."""
        order, size = paging
        self.sandbox.list_options = replace(
            self.sandbox.list_options, reviews_order=order, max_limit=size, since_is_inclusive=is_inclusive
        )

    @rule(
        fault=st.sampled_from(sorted(FAULTS)),
        path=st.sampled_from(["*", "token", *PATHS[:3]]),
        after=st.integers(0, 8),
        times=st.integers(1, 4),
    )
    def something_goes_wrong(self, fault: str, path: str, after: int, times: int) -> None:
        if path != "token" or not fault.startswith(("no results", "a next")):
            event(fault)
            self.sandbox.faults.add(path, FAULTS[fault], after=after, times=times)

    @rule(after=st.integers(0, 12), position=positions, what=st.sampled_from(["edit", "insert", "delete", "vanish"]))
    def something_happens_while_it_is_read(self, after: int, position: int, what: str) -> None:
        happenings: dict[str, Callable[[], None]] = {
            "edit": lambda: self.edit_one(position, comment="Edited amid a sync"),
            "insert": lambda: put_review(self.world, next(self.numbers), self.now()),
            "delete": lambda: self.edit_one(position, status="deleted"),
            "vanish": lambda: self.a_record_vanishes_without_a_trace("reviews", position),
        }
        self.sandbox.faults.add("reviews", call(lambda sandbox: happenings[what]()), after=after)

    @rule(is_revoked=st.booleans())
    def the_login_ends(self, is_revoked: bool) -> None:
        (self.sandbox.oauth.revoke_all_tokens if is_revoked else self.sandbox.oauth.expire_access_tokens)()

    # Syncs

    @rule(days=st.none() | st.integers(0, 3), full=st.booleans())
    def sync(self, days: int | None, full: bool) -> None:
        since = None if days is None else datetime.now(UTC) - timedelta(days=days)
        try:
            self.customer.sync(since=since, full=full)
        except ApiError as error:
            event(type(error).__name__)

    @rule(steps=st.integers(1, 12), full=st.booleans())
    def a_sync_is_told_to_stop(self, steps: int, full: bool) -> None:
        left = iter(range(steps))

        def progress(**read: int) -> None:
            if next(left, None) is None:
                raise Abandoned

        try:
            self.customer.sync(full=full, progress=progress)
        except (Abandoned, ApiError) as end:
            event(type(end).__name__)

    @precondition(lambda self: IS_LONG)
    @rule(after=st.integers(0, 25))
    def a_sync_is_killed(self, after: int) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "smileback_pipeline_tests.victim", str(self.directory), "3"],
            env={**os.environ, **self.sandbox.environment(), "XDG_STATE_HOME": str(self.directory)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.sandbox.faults.add("*", call(lambda sandbox: process.kill()), after=after)
        process.wait()

    @rule()
    def read_all_in_peace(self) -> None:
        """One quiet run that reads everything; a second one only if the first went on with one that was cut short."""
        self.sandbox.faults.clear()
        results = self.customer.sync(full=True).values()
        if any(result.resumed_from for result in results):
            # What vanished after the first half of it had been read was seen by then.
            self.customer.sync(full=True)
        assert_replica_equals(self.world, self.customer.file)
        self.is_quiet = True

    @precondition(lambda self: self.is_quiet)
    @rule()
    def sync_with_nothing_new(self) -> None:
        self.sandbox.faults.clear()
        before = self.rows()
        results = self.customer.sync()
        assert not any(result.changes for result in results.values())
        # `synced_at` too: no row was written.
        assert self.rows() == before
        most = max(len(self.world.tables[path].by_key) for path in PATHS)
        if most <= self.sandbox.list_options.max_limit:
            assert {result.requests for result in results.values()} == {1}

    def rows(self) -> list[list[tuple[Any, ...]]]:
        return [query(self.customer.file, f"from replica.{endpoint.name} order by id") for endpoint in ENDPOINTS]

    @invariant()
    def nothing_is_missing_below_the_watermark(self) -> None:
        if self.customer.file.exists():
            assert_nothing_is_missing_below_the_watermark(self.world, self.customer.file)


Smileback.TestCase.settings = settings(
    max_examples=400 if IS_LONG else 8,
    stateful_step_count=40 if IS_LONG else 25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_whatever_happens_the_replica_keeps_its_promises = pytest.mark.timeout(3600)(Smileback.TestCase)
