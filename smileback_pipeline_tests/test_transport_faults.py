"""What goes wrong between SmileBack and the replica: once, and nothing is to be seen of it; for ever, and it is said.

No test waits for a backoff: what would be waited for is asked of the client, and stamina's testing mode skips it.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina
import stamina.instrumentation

from smileback_pipeline.api.client import Patience
from smileback_pipeline.api.errors import ApiError, RefusedError, ThrottledError, TransientError
from smileback_pipeline.api.transport import Bounds
from smileback_pipeline.endpoints import ENDPOINTS, REVIEWS
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, Action, cut, delay, html, reset, respond, rewrite
from smileback_pipeline_tests.mirror import (
    IMPATIENT,
    Customer,
    assert_nothing_is_missing_below_the_watermark,
    assert_replica_equals,
)
from smileback_pipeline_tests.terminal import free_port
from smileback_pipeline_tests.test_replication import with_reviews

AGENTS = next(endpoint for endpoint in ENDPOINTS if endpoint.path == "csat-agents")
QUICK = Patience(attempts=3, first_wait_seconds=0, bounds=Bounds(silence_seconds=1))


def without(name: str) -> Action:
    return rewrite(lambda page: {key: value for key, value in page.items() if key != name})


def with_value(name: str, value: Any) -> Action:
    return rewrite(lambda page: page | {name: value})


DISTURBANCES: dict[str, tuple[Action, str]] = {
    "500": (html(500, "Server Error (500)"), r"HTTP 500: .*Server Error"),
    "502": (html(502, "Bad Gateway"), r"HTTP 502: .*Bad Gateway"),
    "503": (respond(503, {"detail": "Down for maintenance."}), r"HTTP 503: .*Down for maintenance"),
    "504": (respond(504), r"HTTP 504: \(no text\)"),
    "408": (respond(408), "HTTP 408"),
    "a reset": (reset(), "no whole answer from 127.0.0.1"),
    "a reset once it is done": (reset(once_done=True), "no whole answer from 127.0.0.1"),
    "silence": (delay(3), "no whole answer from 127.0.0.1"),
    "a body cut under its Content-Length": (cut(), "no whole answer from 127.0.0.1"),
    "chunks that stop": (cut(framing="chunked"), "no whole answer from 127.0.0.1"),
    "a body cut where nothing tells its length": (cut(framing="close"), "no page of results"),
    "a body cut by a byte": (cut(0.9999, framing="close"), "no page of results"),
    "a body that is empty where nothing tells its length": (cut(0, framing="close"), "no page of results"),
    "HTML": (html(200), "HTTP 200 with text/html"),
    "an empty body": (respond(200), "HTTP 200 with application/json"),
    "a detail": (respond(200, {"detail": "Not now."}), "no page of results"),
    "null": (respond(200, b"null"), "no page of results"),
    "a list": (respond(200, []), "no page of results"),
    "no results": (without("results"), "no page of results"),
    "results that are null": (with_value("results", None), "no page of results"),
    "results that are an object": (with_value("results", {}), "no page of results"),
    "no count": (without("count"), "no page of results"),
    "a count that is null": (with_value("count", None), "no page of results"),
}


@pytest.fixture
def customer(tmp_path: Path) -> Iterator[Customer]:
    """450 reviews in pages of 100."""
    with running_sandbox(with_reviews(450), max_limit=100) as sandbox:
        yield Customer(sandbox, tmp_path, patience=QUICK)


def statuses(sandbox: Sandbox) -> list[int | None]:
    return [request.status for request in sandbox.requests.to("reviews")]


@pytest.mark.parametrize(("kind", "at_page"), [(kind, number % 5) for number, kind in enumerate(DISTURBANCES)])
def test_what_happens_once_is_got_over(customer: Customer, kind: str, at_page: int) -> None:
    disturbance, _ = DISTURBANCES[kind]
    customer.sandbox.faults.add("reviews", disturbance, after=at_page)
    customer.sync([REVIEWS])
    assert len(statuses(customer.sandbox)) == 6
    assert_replica_equals(customer.sandbox.world, customer.file)


@pytest.mark.parametrize("kind", [kind for kind in DISTURBANCES if kind != "silence"])
def test_what_lasts_ends_the_sync_with_the_reason_and_keeps_what_was_read(customer: Customer, kind: str) -> None:
    disturbance, words = DISTURBANCES[kind]
    customer.sandbox.faults.add("reviews", disturbance, after=2, times=FOREVER)
    with pytest.raises(TransientError, match=rf"^Reading reviews at offset \d+ since 2\S+: .*{words}"):
        customer.sync([REVIEWS])
    assert len(statuses(customer.sandbox)) == 2 + QUICK.attempts
    [(kept,)] = customer.query("select count(*) from replica.reviews")
    assert kept >= 190
    assert_nothing_is_missing_below_the_watermark(customer.sandbox.world, customer.file)
    customer.sandbox.faults.clear()
    assert customer.sync([REVIEWS])["reviews"].requests <= 5 - 1
    assert_replica_equals(customer.sandbox.world, customer.file)


def test_what_is_no_page_never_empties_a_list_that_is_read_whole(customer: Customer) -> None:
    """An error taken for an empty list would remove everything."""
    world = customer.sandbox.world
    for number in range(30):
        world.put("csat-agents", {"id": str(number), "name": f"Agent {number}"})
    customer.sync([AGENTS])
    for disturbance in (disturbance for kind, (disturbance, _) in DISTURBANCES.items() if kind != "silence"):
        customer.sandbox.faults.clear()
        customer.sandbox.faults.add("csat-agents", disturbance, times=FOREVER)
        with pytest.raises(ApiError):
            customer.sync([AGENTS])
        assert customer.query("select count(*) from replica.csat_agents") == [(30,)]


def test_a_server_that_is_not_there_is_named_and_one_that_comes_back_is_used(tmp_path: Path) -> None:
    world, port = with_reviews(450), free_port()
    away = Sandbox(world)
    away.origin = f"http://127.0.0.1:{port}"
    customer = Customer(away, tmp_path)
    with pytest.raises(TransientError, match=r"no whole answer from 127\.0\.0\.1"):
        customer.sync([REVIEWS])
    with running_sandbox(world, port=port, max_limit=100):
        customer.sync([REVIEWS])
    assert_replica_equals(world, customer.file)


def test_a_refused_connection_is_tried_again(tmp_path: Path) -> None:
    world, port = with_reviews(450), free_port()
    servers = [running_sandbox(world, port=port)]
    away = Sandbox(world)
    away.origin = f"http://127.0.0.1:{port}"
    refused = []

    def come_back(details: stamina.instrumentation.RetryDetails) -> None:
        refused.append(details)
        if len(refused) == 1:
            servers[0].__enter__()

    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([come_back])
    try:
        Customer(away, tmp_path).sync([REVIEWS])
    finally:
        stamina.instrumentation.set_on_retry_hooks(before)
        servers[0].__exit__(None, None, None)
    assert len(refused) == 1
    assert_replica_equals(world, tmp_path / "warehouse.duckdb")


# 429


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("37.5", 37.5), ("0", 1), (None, 15), ("soon", 15), ("in 40 s", 40), ("40 s ago", 1)],
)
def test_a_throttled_request_waits_for_as_long_as_smileback_asks(
    customer: Customer, header: str | None, seconds: float
) -> None:
    if header and header.endswith(("40 s", "ago")):
        moment = datetime.now(UTC) + timedelta(seconds=40 if header == "in 40 s" else -40)
        header = email.utils.format_datetime(moment, usegmt=True)
    headers = {"Retry-After": header} if header is not None else {}
    customer.sandbox.faults.add("reviews", respond(429, {"detail": "Throttled."}, headers=headers), after=1)
    with stamina.set_testing(True, attempts=8, cap=True):
        result = customer.sync([REVIEWS])["reviews"]
    assert customer.waits == [pytest.approx(seconds, abs=3)]
    assert result.waited_seconds == sum(customer.waits)
    assert_replica_equals(customer.sandbox.world, customer.file)


def test_the_wait_that_is_told_is_the_wait_there_is(customer: Customer) -> None:
    customer.sandbox.faults.add("reviews", respond(429, headers={"Retry-After": "2"}))
    customer.sync([REVIEWS])
    first, second = customer.sandbox.requests.to("reviews")[:2]
    assert 2 <= second.at - first.at < 20


@pytest.mark.parametrize("retry_after", ["86400", "601", "in a day"])
def test_an_over_long_wait_ends_the_sync_at_once_with_its_progress_kept(customer: Customer, retry_after: str) -> None:
    retry_after = retry_after.replace("in a day", email.utils.formatdate(time.time() + 90_000, usegmt=True))
    throttled = respond(429, {"detail": "Request was throttled."}, headers={"Retry-After": retry_after})
    customer.sandbox.faults.add("reviews", throttled, after=3)
    with pytest.raises(ThrottledError, match=r"HTTP 429: .*Request was throttled.* wait of [\d,]+ s"):
        customer.sync([REVIEWS])
    assert (customer.waits, len(statuses(customer.sandbox))) == ([], 4)
    [(kept,)] = customer.query("select count(*) from replica.reviews")
    assert kept >= 290
    result = customer.sync([REVIEWS])["reviews"]
    assert result.resumed_from
    assert_replica_equals(customer.sandbox.world, customer.file)


def test_who_is_throttled_for_ever_gives_up_in_the_end(customer: Customer) -> None:
    customer.sandbox.faults.add("reviews", respond(429, headers={"Retry-After": "60"}), times=FOREVER)
    with stamina.set_testing(True, attempts=QUICK.attempts), pytest.raises(ThrottledError, match="HTTP 429"):
        customer.sync([REVIEWS])
    assert len(statuses(customer.sandbox)) == QUICK.attempts


# What another try would not change


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 301, 302])
def test_a_refusal_is_not_repeated_and_is_told_in_the_servers_words(customer: Customer, status: int) -> None:
    customer.sandbox.faults.add("reviews", respond(status, {"detail": "These are my words."}), after=1)
    with pytest.raises(RefusedError, match=rf"^Reading reviews .*HTTP {status}: .*These are my words\."):
        customer.sync([REVIEWS])
    assert statuses(customer.sandbox) == [200, status]
    assert_nothing_is_missing_below_the_watermark(customer.sandbox.world, customer.file)
    customer.sync([REVIEWS])
    assert_replica_equals(customer.sandbox.world, customer.file)


# The quota


def test_a_short_sync_bursts_and_a_long_one_is_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with running_sandbox(World.empty(), requests_per_minute=12) as sandbox:
        customer = Customer(sandbox, tmp_path, patience=IMPATIENT)
        customer.sync()
        assert customer.waits == []
        assert sandbox.requests.most_data_requests_within(20) == 9
        assert {request.status for request in sandbox.requests} == {200}
