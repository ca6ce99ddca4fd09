"""Each fault of the sandbox as a client meets it on the wire."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from smileback_pipeline.sandbox import Sandbox, World
from smileback_pipeline.sandbox.faults import FOREVER, call, cut, delay, html, reset, respond, rewrite
from smileback_pipeline_tests.test_sandbox_lists import connected
from smileback_pipeline_tests.test_sandbox_oauth import CLIENT, PASSWORD, post, reads, refresh

Running = tuple[Sandbox, httpx.Client]


@pytest.fixture
def running() -> Iterator[Running]:
    world = World.empty(now=datetime(2026, 1, 1, tzinfo=UTC))
    for n in range(1, 41):
        record = {"id": n, "rating": 1, "comment": "é" * 50, "last_modified": f"2025-12-01T00:00:{n:02}Z"}
        world.put("reviews", record)
    with connected(world) as pair:
        yield pair


def statuses(client: httpx.Client, number: int, endpoint: str = "reviews") -> list[int]:
    return [client.get(f"/v3/{endpoint}/").status_code for _ in range(number)]


def count(client: httpx.Client) -> int:
    return client.get("/v3/reviews/").json()["count"]


# When


def test_a_fault_strikes_once_after_as_many_requests_as_it_is_told(running: Running) -> None:
    sandbox, client = running
    statuses(client, 2)
    sandbox.faults.add("reviews", respond(503), after=1)
    assert statuses(client, 4) == [200, 503, 200, 200]


def test_a_fault_may_strike_some_times_or_for_ever(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", respond(502), times=2)
    assert statuses(client, 3) == [502, 502, 200]
    sandbox.faults.add("reviews", respond(500), times=FOREVER)
    assert statuses(client, 5) == [500] * 5
    sandbox.faults.clear()
    assert statuses(client, 1) == [200]


def test_a_fault_strikes_its_endpoint_or_any(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("csat-boards", respond(404))
    assert statuses(client, 1) == [200]
    sandbox.faults.add("*", respond(403))
    assert [statuses(client, 1), statuses(client, 2, "csat-boards")] == [[403], [404, 200]]


def test_a_fault_may_look_at_the_request(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add(
        "reviews", respond(504), times=FOREVER, when=lambda request: request.query_params.get("offset") == "20"
    )
    assert statuses(client, 2) == [200, 200]
    assert client.get("/v3/reviews/?offset=20").status_code == 504


def test_faults_come_together(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", call(lambda s: s.world.remove("reviews", 7)))
    sandbox.faults.add("reviews", rewrite(lambda page: page | {"next": None}))
    page = client.get("/v3/reviews/").json()
    assert (page["count"], page["next"]) == (39, None)


# Answers


@pytest.mark.parametrize("retry_after", ["5", "0", "86400", "Wed, 21 Oct 2026 07:28:00 GMT", None])
def test_a_refusal_may_say_anything_of_when_to_come_back(running: Running, retry_after: str | None) -> None:
    sandbox, client = running
    headers = {"Retry-After": retry_after} if retry_after else None
    sandbox.faults.add("reviews", respond(429, {"detail": "Request was throttled."}, headers=headers))
    answer = client.get("/v3/reviews/")
    assert (answer.status_code, answer.headers.get("retry-after")) == (429, retry_after)
    assert answer.json() == {"detail": "Request was throttled."}


def test_a_success_may_be_none(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", html())
    sandbox.faults.add("reviews", respond(200), after=1)
    sandbox.faults.add("reviews", respond(200, {"detail": "Not found."}), after=2)
    page, empty, detail = (client.get("/v3/reviews/") for _ in range(3))
    assert {page.status_code, empty.status_code, detail.status_code} == {200}
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.startswith("<!doctype html>")
    assert empty.content == b""
    assert detail.json() == {"detail": "Not found."}


def test_pages_may_lie(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", rewrite(lambda page: {name: page[name] for name in page if name != "results"}))
    sandbox.faults.add("reviews", rewrite(lambda page: page | {"results": None}), after=1)
    sandbox.faults.add("reviews", rewrite(lambda page: page | {"next": "https://elsewhere.example.com/"}), after=2)
    sandbox.faults.add("reviews", rewrite(lambda page: page | {"count": page["count"] + 1}), after=3)
    missing, null, elsewhere, more = (client.get("/v3/reviews/").json() for _ in range(4))
    assert set(missing) == {"count", "next", "previous"}
    assert null["results"] is None
    assert elsewhere["next"] == "https://elsewhere.example.com/"
    assert more["count"] == 41


def test_the_world_may_change_between_two_pages(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", call(lambda s: s.world.edit_review(3, rating=-1)), after=1)
    first = client.get("/v3/reviews/").json()
    second = client.get(first["next"]).json()
    seen = [record["id"] for page in (first, second) for record in page["results"]]
    assert (len(seen), set(range(1, 41)) - set(seen)) == (40, {21})  # the row that slipped between the pages


def test_what_fails_in_a_callback_comes_to_light() -> None:
    with (
        pytest.raises(AssertionError, match="not yet"),
        connected(World.empty(now=datetime(2026, 1, 1, tzinfo=UTC))) as (sandbox, client),
    ):

        def fail(_: Sandbox) -> None:
            raise AssertionError("not yet")

        sandbox.faults.add("reviews", call(fail))
        assert statuses(client, 2) == [500, 200]


# The connection


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_may_break_off(running: Running, framing: str) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", cut(0.5, framing=framing))
    with pytest.raises(httpx.RemoteProtocolError, match=r"without sending complete message body|incomplete chunked"):
        client.get("/v3/reviews/")
    assert statuses(client, 1) == [200]


def test_a_body_may_break_off_without_a_sign_of_it(running: Running) -> None:
    sandbox, client = running
    whole = client.get("/v3/reviews/").content
    sandbox.faults.add("reviews", cut(0.25, framing="close"))
    answer = client.get("/v3/reviews/")
    assert answer.status_code == 200
    assert "content-length" not in answer.headers
    assert answer.content == whole[: len(whole) // 4]
    assert statuses(client, 1) == [200]


@pytest.mark.parametrize("once_done", [False, True])
def test_a_connection_may_be_reset(running: Running, once_done: bool) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", reset(once_done=once_done))
    with pytest.raises(httpx.ReadError) as caught:
        client.get("/v3/reviews/")
    assert "Connection reset by peer" in str(caught.value)
    assert [request.status for request in sandbox.requests.to("reviews")] == [0]
    assert statuses(client, 1) == [200]


def test_an_answer_may_come_too_late(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", delay(30))
    with pytest.raises(httpx.ReadTimeout):
        client.get("/v3/reviews/", timeout=0.05)
    assert statuses(client, 1) == [200]


def test_a_delayed_answer_does_come(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", delay(0.02))
    assert client.get("/v3/reviews/").elapsed.total_seconds() >= 0.02


def test_nothing_of_a_fault_is_left_on_the_connection(running: Running) -> None:
    sandbox, client = running
    for framing in ("length", "chunked", "close"):
        sandbox.faults.add("reviews", cut(0.9, framing=framing))
        with socket.create_connection(("127.0.0.1", int(sandbox.origin.rsplit(":", 1)[1]))) as raw:
            request = (
                f"GET /api/v3/reviews/ HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['authorization']}\r\n\r\n"
            )
            raw.sendall(request.encode())
            received = b""
            while part := raw.recv(65536):
                received += part
        assert received.count(b"HTTP/1.1") == 1
        assert not received.endswith(b"0\r\n\r\n")


# Tokens


def test_a_rotated_pair_may_never_arrive(running: Running) -> None:
    sandbox, _ = running
    token = post(sandbox, PASSWORD).json()
    sandbox.faults.add("token", reset(once_done=True))
    with pytest.raises(httpx.ReadError):
        refresh(sandbox, token)
    assert refresh(sandbox, token).json() == {"error": "invalid_grant"}
    assert reads(sandbox, token) == "The access token is invalid."


def test_a_refresh_that_never_reached_the_server_can_be_repeated(running: Running) -> None:
    sandbox, _ = running
    token = post(sandbox, PASSWORD).json()
    sandbox.faults.add("token", reset())
    with pytest.raises(httpx.ReadError):
        refresh(sandbox, token)
    assert refresh(sandbox, token).status_code == 200


def test_tokens_may_expire_between_two_pages(running: Running) -> None:
    sandbox, client = running
    sandbox.faults.add("reviews", call(lambda s: s.oauth.expire_access_tokens()), after=1)
    assert statuses(client, 2) == [200, 401]


def test_the_token_endpoint_may_fail_too(running: Running) -> None:
    sandbox, _ = running
    sandbox.faults.add("token", respond(500))
    sandbox.faults.add("revoke", respond(503))
    assert post(sandbox, PASSWORD).status_code == 500
    assert post(sandbox, CLIENT | {"token": "x"}, "revoke").status_code == 503
    assert post(sandbox, PASSWORD).status_code == 200
