"""The sandbox's data endpoints over HTTP: filters, paging, refusals, the rate limit, the log, and time passing."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest

from smileback_pipeline.sandbox import ENDPOINTS, Sandbox, World, running_sandbox, serve

NOW = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)


class Clock:
    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def connected(world: World, **options: Any) -> Iterator[tuple[Sandbox, httpx.Client]]:
    with running_sandbox(world, **options) as sandbox, httpx.Client(base_url=sandbox.base_url, verify=False) as client:
        form = {
            "grant_type": "password",
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
            "username": sandbox.username,
            "password": sandbox.password,
        }
        token = client.post("/token/", data=form).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield sandbox, client


def small_world() -> World:
    """50 reviews, one a minute from noon, in the reverse order of their ids; every second one is rated."""
    world = World.empty(now=NOW)
    for n in range(50):
        record = {"id": 100 - n, "rating": 1 if n % 2 else None, "status": "open"}
        world.put("reviews", record | {"last_modified": f"2026-03-01T12:{n:02}:00Z"})
    return world


@pytest.fixture(scope="module")
def api() -> Iterator[httpx.Client]:
    """A client of the small world, which is not to be changed."""
    with connected(small_world()) as (_, client):
        yield client


def reviews(client: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = client.get("/v3/reviews/", params={"include_unrated": "true"} | query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def ids(page: dict[str, Any]) -> list[int]:
    return [record["id"] for record in page["results"]]


# Paging


def test_by_default_a_page_has_the_first_twenty_in_the_order_of_change(api: httpx.Client) -> None:
    page = reviews(api)
    assert list(page) == ["count", "next", "previous", "results"]
    assert (page["count"], page["previous"], ids(page)) == (50, None, list(range(100, 80, -1)))
    assert page["next"] == f"{api.base_url}v3/reviews/?include_unrated=true&limit=20&offset=20"


def test_following_next_and_previous_goes_there_and_back(api: httpx.Client) -> None:
    pages = [reviews(api, limit=15)]
    while pages[-1]["next"]:
        pages.append(api.get(pages[-1]["next"]).json())
    assert [len(page["results"]) for page in pages] == [15, 15, 15, 5]
    assert [review_id for page in pages for review_id in ids(page)] == list(range(100, 50, -1))
    for before, page in pairwise(pages):
        assert api.get(page["previous"]).json() == before
    assert "offset" not in pages[1]["previous"]


@pytest.mark.parametrize("limit", ["0", "-3", "many", ""])
def test_a_limit_that_makes_no_sense_is_the_default(api: httpx.Client, limit: str) -> None:
    assert len(reviews(api, limit=limit)["results"]) == 20


def test_a_limit_above_the_maximum_is_cut_silently() -> None:
    world = World(now=datetime(2024, 6, 1, tzinfo=UTC))
    with connected(world) as (_, client):
        page = reviews(client, limit=5_000)
        assert len(page["results"]) == 1_000 < page["count"]
        assert "limit=1000&offset=1000" in page["next"]
    with connected(world, max_limit=100) as (_, client):
        assert len(reviews(client, limit=1_000)["results"]) == 100
        assert len(reviews(client)["results"]) == 20
    with connected(world, max_limit=7) as (_, client):
        assert len(reviews(client)["results"]) == 7


def test_an_offset_past_the_end_has_no_rows(api: httpx.Client) -> None:
    page = reviews(api, offset=50, limit=30)
    assert (page["count"], page["next"], page["results"]) == (50, None, [])
    assert page["previous"].endswith("limit=30&offset=20")
    assert len(reviews(api, offset="-1")["results"]) == len(reviews(api, offset="x")["results"]) == 20


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_walk_through_an_endpoint_yields_every_record_once(endpoint: str) -> None:
    world = World(now=datetime(2024, 6, 1, tzinfo=UTC))
    with connected(world) as (_, client):
        url: str | None = f"/v3/{endpoint}/?limit=400&include_unrated=true"
        records = []
        while url:
            page = client.get(url).json()
            records += page["results"]
            url = page["next"]
    assert page["count"] == len(records) > 0
    assert [record for record in records if record.get("status") != "deleted"] == world.live(endpoint)


def test_deleted_reviews_are_listed_as_deleted() -> None:
    world = small_world()
    world.edit_review(75, status="deleted")
    with connected(world) as (_, client):
        page = reviews(client, modified_since=NOW.isoformat())
        assert [(record["id"], record["status"]) for record in page["results"]] == [(75, "deleted")]
        assert reviews(client)["count"] == 50


# Filters


@pytest.mark.parametrize(
    ("include_unrated", "count"), [("true", 50), ("True", 50), ("1", 50), ("false", 25), ("", 25), ("perhaps", 25)]
)
def test_unrated_reviews_are_left_out_unless_asked_for(api: httpx.Client, include_unrated: str, count: int) -> None:
    assert reviews(api, include_unrated=include_unrated)["count"] == count
    assert api.get("/v3/reviews/").json()["count"] == 25


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("2026-03-01T12:30:00Z", 20),
        ("2026-03-01T12:30:00.000001Z", 19),
        ("2026-03-01T14:30:00+02:00", 20),
        ("2026-03-01T12:30:00", 20),
        ("2026-03-01", 50),
        ("2026-03-02", 0),
        ("", 50),
    ],
)
def test_modified_since_compares_instants_and_includes_its_own(api: httpx.Client, since: str, count: int) -> None:
    page = reviews(api, modified_since=since, limit=1_000)
    assert (page["count"], len(page["results"])) == (count, count)


def test_modified_since_can_be_made_to_exclude_its_own_instant() -> None:
    with connected(small_world(), since_is_inclusive=False) as (_, client):
        assert reviews(client, modified_since="2026-03-01T12:30:00Z")["count"] == 19
        assert reviews(client, modified_since="2026-03-01T12:29:59.999999Z")["count"] == 20


@pytest.mark.parametrize("query", ["modified_since=soon", "modified_since=2026-03-01T12:30:00+00:00"])
def test_a_date_that_cannot_be_read_is_refused(api: httpx.Client, query: str) -> None:
    answer = api.get(f"/v3/reviews/?{query}")  # an unescaped + is a space
    assert answer.status_code == 400
    assert answer.json() == {"modified_since": ["Enter a valid date/time."]}


def test_unknown_filters_are_ignored(api: httpx.Client) -> None:
    assert reviews(api, rating="-1", modified_before="2026-03-01T12:10:00Z")["count"] == 50


def test_nps_responses_are_filtered_by_campaign_score_and_time() -> None:
    world = World.empty(now=NOW)
    for n, (score, campaign) in enumerate([(0, "Q1"), (6, "Q1"), (7, "Q2"), (9, "Q2"), (10, "Q2")]):
        record = {"id": n, "score": score, "campaign_name": campaign, "created_at": f"2026-02-0{n + 1}T00:00:00.5Z"}
        world.put("nps-responses", record)
    world.put("nps-responses", {"id": 9, "score": None, "created_at": "2026-01-01T00:00:00Z"})
    with connected(world) as (_, client):

        def found(**query: Any) -> list[int]:
            return [record["score"] for record in client.get("/v3/nps-responses/", params=query).json()["results"]]

        assert found() == [None, 0, 6, 7, 9, 10]
        assert found(score_gt=6) == [7, 9, 10]
        assert found(score_lt=7) == [0, 6]
        assert found(score_exact=9) == [9]
        assert found(campaign_name="Q2", score_gt=7) == [9, 10]
        assert found(campaign_name="Q3") == []
        assert found(created_since="2026-02-03T00:00:00.500Z") == [7, 9, 10]
        refusal = client.get("/v3/nps-responses/", params={"score_gt": "high"})
        assert (refusal.status_code, refusal.json()) == (400, {"score_gt": ["Enter a number."]})
        assert client.get("/v3/nps-responses/?created_since=x").json() == {
            "created_since": ["Enter a valid date/time."]
        }


# Order


def test_the_order_of_reviews_can_be_chosen() -> None:
    world = small_world()
    for order, expected in [("-last_modified", list(range(51, 101))), ("id", list(range(51, 101)))]:
        with connected(world, reviews_order=order) as (_, client):
            assert ids(reviews(client, limit=100)) == expected
    with connected(world, reviews_order="random") as (_, client):
        first, second = (ids(reviews(client, limit=100)) for _ in range(2))
        assert first != second
        assert sorted(first) == sorted(second) == list(range(51, 101))
        assert reviews(client, modified_since="2026-03-01T12:40:00Z")["count"] == 10


# Refusals


def test_a_url_without_its_slash_is_redirected_with_its_query(api: httpx.Client) -> None:
    answer = api.get("/v3/reviews?limit=3")
    assert answer.status_code == 301
    assert answer.headers["location"] == "/api/v3/reviews/?limit=3"


@pytest.mark.parametrize("path", ["/v3/review/", "/v3/reviews/7/", "/v3/", "/nothing", "/v2/reviews/"])
def test_an_unknown_url_is_answered_in_html(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        (None, 'Bearer realm="api"'),
        ("Basic abc", 'Bearer realm="api"'),
        (
            "Bearer wrong",
            'Bearer realm="api",error="invalid_token",error_description="The access token is invalid."',
        ),
    ],
)
def test_without_a_good_token_there_is_no_data(api: httpx.Client, authorization: str | None, challenge: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = httpx.get(f"{api.base_url}v3/reviews/", headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Authentication credentials were not provided."}
    assert answer.headers["www-authenticate"] == challenge


def test_data_can_only_be_read(api: httpx.Client) -> None:
    answer = api.post("/v3/reviews/", json={"id": 1})
    assert (answer.status_code, answer.json()) == (405, {"detail": 'Method "POST" not allowed.'})
    assert api.head("/v3/reviews/").content == b""


# The rate limit


def test_the_limit_counts_accepted_requests_over_a_sliding_minute() -> None:
    clock = Clock()
    with connected(small_world(), requests_per_minute=3, clock=clock) as (sandbox, client):
        for endpoint in ("reviews", "csat-boards", "reviews"):
            assert client.get(f"/v3/{endpoint}/").status_code == 200
            clock.seconds += 10
        refusal = client.get("/v3/prj-surveys/")  # 30 s after the first
        assert refusal.status_code == 429
        assert refusal.headers["retry-after"] == "30"
        assert refusal.json() == {"detail": "Request was throttled. Expected available in 30 seconds."}
        clock.seconds += 29.2
        assert client.get("/v3/reviews/").json()["detail"].endswith("in 1 second.")
        clock.seconds += 0.8  # the refused ones did not count
        assert client.get("/v3/reviews/").status_code == 200
        assert client.get("/v3/reviews/").headers["retry-after"] == "10"
        assert sandbox.requests.most_data_requests_within(60) == 6  # those refused included


def test_what_is_refused_for_its_token_or_asks_for_one_costs_no_quota() -> None:
    with connected(small_world(), requests_per_minute=1) as (sandbox, client):
        for _ in range(3):
            assert httpx.get(f"{sandbox.base_url}/v3/reviews/").status_code == 401
            assert client.post("/token/").status_code == 401
        assert client.get("/v3/reviews/").status_code == 200
        assert client.get("/v3/reviews/").status_code == 429


# The log


def test_the_log_tells_what_was_asked_and_answered() -> None:
    with connected(small_world()) as (sandbox, client):
        client.get("/v3/reviews/?limit=5&modified_since=2026-03-01")
        client.get("/v3/nothing/")
        assert [(r.method, r.endpoint, r.status) for r in sandbox.requests] == [
            ("POST", "token", 200),
            ("GET", "reviews", 200),
            ("GET", "", 404),
        ]
        (request,) = sandbox.requests.to("reviews")
        assert request.query == {"limit": "5", "modified_since": "2026-03-01"}
        assert request.path == "/api/v3/reviews/"
        assert datetime.now(UTC) - request.wall < timedelta(minutes=1)


def test_the_log_finds_the_busiest_window() -> None:
    clock = Clock()
    with connected(World.empty(now=NOW), clock=clock) as (sandbox, client):
        for seconds in (0, 30, 59, 60, 61, 200):
            clock.seconds = seconds
            client.get("/v3/reviews/")
        assert sandbox.requests.most_data_requests_within(60) == 4
        assert sandbox.requests.most_data_requests_within(1) == 1


# Time


def test_edits_are_seen_by_the_next_request() -> None:
    world = small_world()
    with connected(world) as (_, client):
        world.edit_review(100, rating=-1)
        assert ids(reviews(client, modified_since=NOW.isoformat())) == [100]
        world.remove("reviews", 100)
        assert reviews(client)["count"] == 49


def test_time_stands_still_unless_it_is_given_a_speed() -> None:
    world = World(now=NOW)
    with connected(world) as (_, client):
        assert reviews(client) == reviews(client)
    assert world.now == NOW


def test_new_activity_appears_as_time_passes_but_none_from_the_future() -> None:
    world = World(now=datetime.now(UTC) - timedelta(days=9))
    before = len(world.live("reviews"))
    with connected(world, speed=1e9) as (_, client):
        page = reviews(client, modified_since=(datetime.now(UTC) - timedelta(days=8)).isoformat())
    assert page["count"] > 50
    assert len(world.live("reviews")) > before
    assert world.now <= datetime.now(UTC)
    assert max(datetime.fromisoformat(review["last_modified"]) for review in world.live("reviews")) <= world.now


# Start and stop


def test_the_environment_leads_to_the_sandbox() -> None:
    with running_sandbox(World.empty(now=NOW), requests_per_minute=30) as sandbox:
        variables = sandbox.environment()
        assert variables["SMILEBACK_BASE_URL"].startswith("http://127.0.0.1:")
        assert variables["SMILEBACK_REQUESTS_PER_MINUTE"] == "30"
        form = {name.removeprefix("SMILEBACK_").lower(): value for name, value in variables.items()}
        token = httpx.post(f"{variables['SMILEBACK_BASE_URL']}/token/", data=form | {"grant_type": "password"})
        assert token.status_code == 200
        assert httpx.get(variables["SMILEBACK_AUTHORIZE_URL"]).status_code == 400
    with pytest.raises(httpx.ConnectError):
        httpx.get(sandbox.base_url)


def test_a_failure_inside_the_sandbox_is_a_500_and_comes_to_light() -> None:
    world = small_world()
    with pytest.raises(KeyError), connected(world) as (_, client):
        del world.tables["prj-surveys"]
        answer = client.get("/v3/prj-surveys/")
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("address", ["0.0.0.0:8750", "192.168.1.5:80", "8750", "sandbox.example.com:80", "127.0.0.1:"])
def test_it_serves_on_loopback_only(address: str) -> None:
    with pytest.raises(ValueError, match="not a loopback address"):
        serve(address, world=World.empty(now=NOW))


def test_it_serves_in_the_foreground_until_interrupted() -> None:
    program = (
        "from smileback_pipeline.sandbox import World, serve\n"
        "serve('127.0.0.1:0', world=World.empty(), on_start=lambda sandbox: print(sandbox.base_url, flush=True))\n"
        "print('bye')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout and it.stderr
        base_url = it.stdout.readline().strip()
        assert httpx.get(f"{base_url}/v3/reviews/").status_code == 401
        it.send_signal(2)
        assert it.wait(timeout=30) == 0
        assert it.stdout.read() == "bye\n"
        assert it.stderr.read() == ""


def test_time_that_runs_faster_has_a_month_to_run_through() -> None:
    class Left(Exception):  # noqa: N818 - no error
        pass

    def leave(sandbox: Sandbox) -> None:
        assert timedelta(days=29) < datetime.now(UTC) - sandbox.world.now < timedelta(days=31)
        raise Left

    with pytest.raises(Left):
        serve("127.0.0.1:0", speed=1440, on_start=leave)
