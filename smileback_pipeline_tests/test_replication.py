"""Replicating over HTTP into a file, whatever the list does: every live record is there once, field by field.

Without Dagster and dbt, so that many scenarios take little time; `test_sync.py` has the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smileback_pipeline.api.errors import ApiError
from smileback_pipeline.endpoints import ENDPOINTS, NPS_RESPONSES, REVIEWS, Endpoint
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, call, respond, rewrite
from smileback_pipeline_tests.mirror import (
    Customer,
    assert_nothing_is_missing_below_the_watermark,
    assert_replica_equals,
)

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ORDERS = ("last_modified", "-last_modified", "id", "random")
BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}
CONTACTS, PRJ_RESPONSES = BY_PATH["csat-contacts"], BY_PATH["prj-responses"]


def wire(stamp: datetime | None) -> str | None:
    return stamp and stamp.isoformat().replace("+00:00", "Z")


def put_review(
    world: World, number: int, at: datetime | None, *, filed_at: datetime | None = None, **more: Any
) -> None:
    """A review as SmileBack has it, last modified `at`."""
    record = {
        "id": number,
        "rating": (1, 0, -1, None)[number % 4],
        "comment": f"Comment {number}",
        "ticket": {
            "id": str(number),
            "title": "Printer",
            "segment": {"id": "1", "name": "Onsite"},
            "agents": ["AK", "NF"],
            "closed_on": wire(NOW - timedelta(days=3)),
        },
        "contact": {"id": "7", "name": "Zoë", "email": "zoe@example.com"},
        "company": None,
        "status": "open",
        "tags": ["a"] * (number % 3),
        "has_marketing_permission": number % 2 == 0,
        "viewed_on": None,
        "rated_on": None,
        "permalink": f"https://app.smileback.io/reviews/{number}/",
        "last_modified": wire(at),
    }
    world.put("reviews", record | more, filed_at=filed_at)


def put_response(world: World, number: int, at: datetime, **more: Any) -> None:
    """An answer to an NPS survey."""
    record = {"id": number, "score": number % 11, "comment": None, "created_at": wire(at), "campaign_name": "Q1"}
    world.put("nps-responses", record | more)


def with_reviews(count: int, *, at: Callable[[int], datetime] = lambda number: NOW - (1000 - number) * MINUTE) -> World:
    """A world with reviews from number 1 on, a minute apart."""
    world = World.empty(now=NOW)
    for number in range(1, count + 1):
        put_review(world, number, at(number))
    return world


@pytest.fixture
def customer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Customer]:
    """450 reviews in pages of 100, unless the test has it otherwise."""
    options = {"max_limit": 100} | getattr(request, "param", {})
    world = options.pop("world", None)
    with running_sandbox(world() if world else with_reviews(450), **options) as sandbox:
        yield Customer(sandbox, tmp_path)


def requests_of(sandbox: Sandbox, endpoint: str = "reviews") -> int:
    return len(sandbox.requests.to(endpoint))


# Order, filter and paging


@pytest.mark.parametrize(("max_limit", "is_inclusive"), [(1000, True), (100, False)])
@pytest.mark.parametrize("order", ORDERS)
def test_a_customers_whole_history_is_replicated_and_kept_up(
    tmp_path: Path, order: str, max_limit: int, is_inclusive: bool
) -> None:
    world = World(now=NOW - timedelta(days=5), scale=0.02)
    options = {"reviews_order": order, "max_limit": max_limit, "since_is_inclusive": is_inclusive}
    with running_sandbox(world, **options) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.sync()
        assert_replica_equals(world, customer.file)
        world.advance(to=NOW)
        customer.later(timedelta(days=5))
        changes = customer.sync()["reviews"].changes
        assert changes.new or changes.changed
        # What changed without a sign is found by reading all of it again.
        customer.sync(full=True)
        assert_replica_equals(world, customer.file)


@pytest.mark.parametrize("customer", [{"max_limit": 20, "reviews_order": order} for order in ORDERS[:3]], indirect=True)
def test_pages_cut_to_the_default_of_20_lose_nothing(customer: Customer) -> None:
    customer.sync([REVIEWS])
    assert_replica_equals(customer.sandbox.world, customer.file)


def bulk_edited() -> World:
    return with_reviews(2700, at=lambda number: NOW - (100 * MINUTE if number > 200 else (1000 - number) * MINUTE))


@pytest.mark.parametrize(
    "customer",
    [
        {"world": bulk_edited, "max_limit": size, "reviews_order": order, "since_is_inclusive": is_inclusive}
        for size, order, is_inclusive in [
            (1000, "last_modified", True),
            (1000, "last_modified", False),
            (100, "last_modified", True),
            (1000, "-last_modified", False),
            (100, "id", True),
            (1000, "random", True),
        ]
    ],
    indirect=True,
    ids=lambda options: " ".join(str(option) for option in options.values() if option is not bulk_edited),
)
def test_2500_reviews_of_one_stamp_are_replicated_and_so_is_one_more_of_them(customer: Customer) -> None:
    world = customer.sandbox.world
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)
    # The watermark is now 5 minutes before the stamp that all of them share.
    put_review(world, 5000, NOW - 100 * MINUTE)
    world.edit_review(2000, at=NOW - 100 * MINUTE, comment="changed within the same stamp")
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)


def test_an_initial_sync_costs_a_request_a_page_and_a_quiet_one_costs_one_and_changes_nothing(
    customer: Customer,
) -> None:
    world, sandbox = customer.sandbox.world, customer.sandbox
    for number in range(300):
        put_response(world, number, NOW - number * MINUTE)
    customer.sync()
    assert requests_of(sandbox) == 5
    both = [f"from replica.{table} order by id" for table in ("reviews", "nps_responses")]
    before = [customer.query(rows) for rows in both]
    asked = len(sandbox.requests)
    quiet = customer.sync()
    assert {name: (bool(result.changes), result.requests) for name, result in quiet.items()} == {
        endpoint.name: (False, 1) for endpoint in ENDPOINTS
    }
    assert len(sandbox.requests) - asked == len(ENDPOINTS)
    # `synced_at` too: no row was written.
    assert [customer.query(rows) for rows in both] == before
    assert_replica_equals(world, customer.file)


# Changes while it is read


def insert(world: World) -> None:
    put_review(world, 9000 + len(world.tables["reviews"].by_key), world.now)


CHANGES: dict[str, Callable[[World], Any]] = {
    "an edit behind": lambda world: world.edit_review(3, comment="edited"),
    "an edit ahead": lambda world: world.edit_review(330, comment="edited"),
    "a hundred edits behind": lambda world: [world.edit_review(n, comment="edited") for n in range(1, 101)],
    "an insert": insert,
    "a removal behind": lambda world: world.remove("reviews", 5),
    "a removal ahead": lambda world: world.remove("reviews", 350),
    "ninety removals behind": lambda world: [world.remove("reviews", n) for n in range(1, 91)],
    "a removal and an insert": lambda world: (world.remove("reviews", 5), insert(world)),
    "a deletion behind": lambda world: world.edit_review(3, status="deleted"),
    "a deletion ahead": lambda world: world.edit_review(330, status="deleted"),
}


@pytest.mark.parametrize("customer", [{"reviews_order": order} for order in ORDERS[:3]], indirect=True, ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_what_happens_between_pages_costs_no_row(customer: Customer, change: str) -> None:
    world = customer.sandbox.world
    tick = iter(range(1, 1000))

    def happen(sandbox: Sandbox) -> None:
        with world.lock:
            world.advance(to=NOW + next(tick) * timedelta(seconds=1))
            CHANGES[change](world)

    customer.sandbox.faults.add("reviews", call(happen), after=2)
    customer.sync([REVIEWS])
    assert_nothing_is_missing_below_the_watermark(world, customer.file)
    # What was removed after it was read vanished without a trace; all else is there after one quiet run.
    customer.sync([REVIEWS])
    if "removal" in change:
        replicated = {number for (number,) in customer.query("select id from replica.reviews")}
        assert {review["id"] for review in world.live("reviews")} <= replicated
        customer.sync([REVIEWS], full=True)
    assert_replica_equals(world, customer.file)


@pytest.mark.parametrize("customer", [{"reviews_order": order} for order in ORDERS[:3]], indirect=True, ids=str)
def test_a_list_in_which_something_changes_at_each_page_is_replicated(customer: Customer) -> None:
    world = customer.sandbox.world
    seconds = iter(range(1, 1000))

    def edit(sandbox: Sandbox) -> None:
        second = next(seconds)
        world.advance(to=NOW + timedelta(seconds=second))
        world.edit_review(second * 37 % 450 + 1, comment=f"edited in second {second}")

    customer.sandbox.faults.add("reviews", call(edit), times=30)
    for _ in range(5):
        try:
            customer.sync([REVIEWS])
        except ApiError:
            assert_nothing_is_missing_below_the_watermark(world, customer.file)
        else:
            break
    customer.sandbox.faults.clear()
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)


def test_a_change_that_becomes_visible_four_minutes_late_is_found(customer: Customer) -> None:
    world = customer.sandbox.world
    customer.sync([REVIEWS])
    # A sync in between sees what is newer; then the older one comes to light.
    world.advance(to=NOW + 10 * MINUTE)
    world.edit_review(7, comment="in time")
    customer.sync([REVIEWS])
    put_review(world, 777, NOW + 6 * MINUTE + timedelta(seconds=1))
    world.edit_review(8, at=NOW + 6 * MINUTE + timedelta(seconds=1), comment="late")
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)


def test_stamps_with_and_without_a_fraction_in_one_second_are_instants(tmp_path: Path) -> None:
    world = with_reviews(300, at=lambda number: NOW + timedelta(milliseconds=(number % 20) * 50))
    with running_sandbox(world, max_limit=20) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.sync([REVIEWS])
        assert_replica_equals(world, customer.file)
        put_review(world, 301, NOW + timedelta(milliseconds=999))
        put_review(world, 302, NOW + timedelta(seconds=1))
        customer.sync([REVIEWS])
        assert_replica_equals(world, customer.file)


def test_a_stamp_from_the_future_hides_no_later_change(customer: Customer) -> None:
    world = customer.sandbox.world
    put_review(world, 999, datetime(2099, 1, 1, tzinfo=UTC))
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)
    world.advance(to=datetime.now(UTC))
    world.edit_review(7, comment="of today")
    put_review(world, 1000, world.now)
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)


@pytest.mark.parametrize("customer", [{"reviews_order": order} for order in ORDERS[:3]], indirect=True, ids=str)
def test_a_review_without_a_stamp_is_replicated_and_hides_nothing(customer: Customer) -> None:
    world = customer.sandbox.world
    put_review(world, 1001, None, filed_at=NOW - 700 * MINUTE)
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)
    assert not customer.sync([REVIEWS], full=True)["reviews"].changes
    world.edit_review(449, at=NOW, comment="later")
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)


@pytest.mark.parametrize("customer", [{"reviews_order": order} for order in ORDERS[:3]], indirect=True, ids=str)
@pytest.mark.parametrize(
    "lie",
    [
        lambda page: page | {"next": None},
        lambda page: page | {"next": "http://127.0.0.1:9/elsewhere"},
        lambda page: page | {"next": page["next"] or "http://127.0.0.1:9/?offset=0"},
        lambda page: {key: value for key, value in page.items() if key != "next"},
    ],
    ids=["null too early", "points elsewhere", "repeats", "missing"],
)
def test_a_next_that_lies_is_not_believed(customer: Customer, lie: Callable[[Any], Any]) -> None:
    customer.sandbox.faults.add("reviews", rewrite(lie), times=FOREVER)
    customer.sync([REVIEWS])
    assert_replica_equals(customer.sandbox.world, customer.file)
    assert requests_of(customer.sandbox) < 40


# Going on where a run had stopped


@pytest.mark.parametrize("customer", [{"max_limit": 20, "world": lambda: with_reviews(2000)}], indirect=True)
def test_a_sync_cut_after_page_80_of_100_goes_on_at_page_81_and_says_so(customer: Customer) -> None:
    customer.sandbox.faults.add("reviews", respond(403, {"detail": "No."}), after=80)
    with pytest.raises(ApiError, match=r"reviews .* HTTP 403: .*No\."):
        customer.sync([REVIEWS])
    [(rows,)] = customer.query("select count(*) from replica.reviews")
    assert rows >= 80 * 19
    assert_nothing_is_missing_below_the_watermark(customer.sandbox.world, customer.file)
    asked = requests_of(customer.sandbox)
    result = customer.sync([REVIEWS])["reviews"]
    assert result.resumed_from is not None
    assert requests_of(customer.sandbox) - asked <= 100 - 80 + 8  # pages overlap by a record
    assert_replica_equals(customer.sandbox.world, customer.file)


@pytest.mark.parametrize("customer", [{"reviews_order": order} for order in ORDERS[:3]], indirect=True, ids=str)
@pytest.mark.parametrize("cut_after", [1, 3, 4])
def test_what_changes_between_the_cut_and_the_next_run_is_not_lost(customer: Customer, cut_after: int) -> None:
    world = customer.sandbox.world
    customer.sandbox.faults.add("reviews", respond(403), after=cut_after)
    with pytest.raises(ApiError):
        customer.sync([REVIEWS])
    world.advance(to=NOW + MINUTE)
    world.edit_review(2, comment="behind the cut")
    world.edit_review(440, comment="before the cut")
    put_review(world, 5001, NOW + MINUTE)
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)


@pytest.mark.parametrize("endpoint", [REVIEWS, CONTACTS], ids=lambda endpoint: endpoint.path)
@pytest.mark.parametrize("customer", [{"reviews_order": "-last_modified"}], indirect=True, ids=str)
def test_what_vanishes_while_a_first_sync_is_cut_short_is_not_kept(customer: Customer, endpoint: Endpoint) -> None:
    world = customer.sandbox.world
    for number in range(1, 400):
        world.put("csat-contacts", {"id": str(number), "name": f"Contact {number}"})
    customer.sandbox.faults.add(endpoint.path, respond(403), after=2)
    with pytest.raises(ApiError):
        customer.sync([endpoint])
    landed = {row[0] for row in customer.query(f"select id from replica.{endpoint.name}")}
    assert len(landed) > 100
    world.remove(endpoint.path, next(iter(landed)))
    customer.sync([REVIEWS, CONTACTS])
    assert_replica_equals(world, customer.file)


@pytest.mark.parametrize("customer", [{"reviews_order": order} for order in ORDERS[:3]], indirect=True, ids=str)
def test_a_full_sync_that_is_cut_short_twice_removes_what_vanished_and_nothing_else(customer: Customer) -> None:
    world = customer.sandbox.world
    customer.sync([REVIEWS])
    for number in (5, 200, 449):
        world.remove("reviews", number)
    for cut_after in (2, 3):
        rule = customer.sandbox.faults.add("reviews", respond(403), after=cut_after)
        with pytest.raises(ApiError):
            customer.sync([REVIEWS], full=True)
        assert rule.seen == cut_after + 1
        assert customer.query("select count(*) from replica.reviews") == [(450,)]
    customer.sync([REVIEWS], full=True)
    assert_replica_equals(world, customer.file)


# Deletes


def test_a_deleted_review_leaves_at_once_and_returns_when_it_is_restored(customer: Customer) -> None:
    world = customer.sandbox.world
    customer.sync([REVIEWS])
    world.edit_review(5, at=NOW, status="deleted", rating=7, ticket="nonsense")
    assert customer.sync([REVIEWS])["reviews"].changes.deleted == 1
    assert_replica_equals(world, customer.file)
    assert customer.query("from replica.rejected_records") == []
    world.edit_review(5, at=NOW + MINUTE, status="done", rating=1, ticket=None)
    assert customer.sync([REVIEWS])["reviews"].changes.new == 1
    assert_replica_equals(world, customer.file)


def test_a_review_that_vanished_without_a_trace_is_found_by_reading_everything(customer: Customer) -> None:
    world = customer.sandbox.world
    customer.sync([REVIEWS])
    world.remove("reviews", 5)
    customer.sync([REVIEWS])
    assert customer.query("select count(*) from replica.reviews where id = 5") == [(1,)]
    assert customer.sync(full=True)["reviews"].changes.deleted == 1
    assert_replica_equals(world, customer.file)


@pytest.mark.parametrize(
    "customer", [{"reviews_order": order} for order in ("last_modified", "-last_modified", "id")], indirect=True
)
def test_a_review_that_is_edited_while_everything_is_read_is_not_taken_for_gone(customer: Customer) -> None:
    """In a list with the newest first it moves to where the walk has been, and a new one makes up for it."""
    world = customer.sandbox.world
    customer.sync([REVIEWS])

    def change(sandbox: Sandbox) -> None:
        world.edit_review(5, at=NOW, comment="edited meanwhile")
        put_review(world, 5000, NOW)

    customer.sandbox.faults.add("reviews", call(change), after=2)
    assert customer.sync([REVIEWS], full=True)["reviews"].changes.deleted == 0
    assert customer.query("select comment from replica.reviews where id = 5") == [("edited meanwhile",)]
    customer.sync()
    assert_replica_equals(world, customer.file)


def test_members_leave_only_after_a_complete_walk_over_their_list(customer: Customer) -> None:
    world = customer.sandbox.world
    for number in range(1, 400):
        world.put("csat-contacts", {"id": str(number), "name": f"Contact {number}"})
    customer.sync()
    for number in range(1, 150):
        world.remove("csat-contacts", str(number))
    customer.sandbox.faults.add("csat-contacts", respond(403), after=2)
    with pytest.raises(ApiError):
        customer.sync([CONTACTS])
    assert customer.query("select count(*) from replica.csat_contacts") == [(399,)]
    assert customer.sync([CONTACTS])["csat_contacts"].changes.deleted == 149
    customer.sync()
    assert_replica_equals(world, customer.file)


def test_an_id_that_is_written_in_another_way_is_the_same_record_and_stays(customer: Customer) -> None:
    """Keys are compared when a full sync looks for what is gone; `5000` and `5000.0` are one number."""
    world = customer.sandbox.world
    put_review(world, 5000, NOW, id=5000.0)
    world.put("csat-contacts", {"id": 12, "name": "An id without quotes"})
    customer.sync([REVIEWS, CONTACTS])
    customer.sync([REVIEWS, CONTACTS], full=True)
    assert customer.query("select count(*) from replica.reviews where id = 5000") == [(1,)]
    assert customer.query("select id from replica.csat_contacts") == [("12",)]


# NPS responses: filtered by their creation, so that an edit shows only when they are read again


def test_an_edited_nps_response_is_found_by_reading_the_recent_past_again_once_a_day(customer: Customer) -> None:
    world, sandbox = customer.sandbox.world, customer.sandbox
    for number in range(60):
        put_response(world, number, NOW - number * timedelta(days=1))
    customer.sync()
    put_response(world, 3, NOW - timedelta(days=3), score=0, comment="edited")
    put_response(world, 29, NOW - timedelta(days=29), score=10, comment="edited")
    asked = requests_of(sandbox, "nps-responses")
    customer.sync()
    assert requests_of(sandbox, "nps-responses") - asked == 1
    assert customer.query("select count(*) from replica.nps_responses where comment = 'edited'") == [(0,)]
    customer.later(timedelta(days=1))
    assert customer.sync()["nps_responses"].changes.changed == 2
    assert_replica_equals(world, customer.file)


def test_an_older_nps_response_that_was_edited_or_removed_is_found_by_reading_everything(customer: Customer) -> None:
    world = customer.sandbox.world
    for number in range(60):
        put_response(world, number, NOW - number * timedelta(days=1))
    customer.sync()
    put_response(world, 50, NOW - timedelta(days=50), score=0, comment="edited")
    world.remove("nps-responses", 3)
    customer.later(timedelta(days=1))
    customer.sync()
    assert customer.query("select count(*) from replica.nps_responses where comment = 'edited' or id = 3") == [(1,)]
    customer.sync(full=True)
    assert_replica_equals(world, customer.file)


def test_changes_are_read_again_from_a_day_on(customer: Customer) -> None:
    world = customer.sandbox.world
    customer.sync([REVIEWS])
    # Behind the watermark, as if it had become visible hours late.
    world.edit_review(400, at=NOW - 650 * MINUTE, comment="hours late")
    assert not customer.sync([REVIEWS])["reviews"].changes
    assert customer.sync(since=NOW - 660 * MINUTE)["reviews"].changes.changed == 1
    assert_replica_equals(world, customer.file)


def test_the_server_is_asked_from_the_watermark_on_as_the_api_writes_instants(customer: Customer) -> None:
    customer.sync([NPS_RESPONSES])
    customer.sync([REVIEWS])
    customer.sync([REVIEWS])
    [(watermark,)] = customer.query("select watermark from replica.sync_state where endpoint = 'reviews'")
    assert watermark == NOW - (1000 - 450) * MINUTE - timedelta(minutes=5)
    asked = customer.sandbox.requests.to("reviews")[-1].query["modified_since"]
    assert asked.endswith("Z")
    assert datetime.fromisoformat(asked) == watermark - timedelta(microseconds=1)


@pytest.mark.parametrize("near", [6.7, "6.7", "7.2", 7.4])
def test_an_id_that_is_no_whole_number_does_no_harm_to_the_record_whose_id_is_near(
    customer: Customer, near: float | str
) -> None:
    world = customer.sandbox.world
    customer.sync([REVIEWS])
    put_review(world, 7, NOW, comment="the real one")
    put_review(world, 5000, NOW + MINUTE, id=near)
    customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)
    assert customer.query("select reason from replica.rejected_records") == [("id is not a number",)]
