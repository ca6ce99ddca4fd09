"""The sandbox's account: the same history everywhere, lifelike, and easy for tests to change."""

import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

import pytest

from smileback_pipeline.sandbox import ENDPOINTS, World
from smileback_pipeline.sandbox.instants import microseconds
from smileback_pipeline_tests import oracle

NOW = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def world() -> World:
    """Not to be changed."""
    return World(now=NOW)


def fingerprint(world: World) -> dict[str, str]:
    return {
        endpoint: sha256(b"\n".join(row.body for row in world.tables[endpoint].rows)).hexdigest()
        for endpoint in ENDPOINTS
    }


def instant(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)


def net_csat(reviews: list[dict]) -> float:
    return 100 * sum(int(review["rating"]) for review in reviews) / len(reviews)


# The same everywhere


def test_another_process_tells_the_same_history(world: World) -> None:
    program = (
        "from datetime import datetime\n"
        "from smileback_pipeline.sandbox import World\n"
        "from smileback_pipeline_tests.test_sandbox_world import fingerprint\n"
        f"print(fingerprint(World(now=datetime.fromisoformat({NOW.isoformat()!r}))))"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert told.strip() == str(fingerprint(world))


def test_time_may_pass_in_one_step_or_in_many() -> None:
    stepping = World(now=datetime(2024, 8, 20, 7, tzinfo=UTC))
    while stepping.now < datetime(2024, 10, 20, tzinfo=UTC):
        stepping.advance(to=stepping.now + timedelta(hours=17, minutes=3))
    assert fingerprint(stepping) == fingerprint(World(now=stepping.now))


def test_later_the_account_holds_more_and_keeps_its_ids() -> None:
    earlier, later = World(now=NOW - timedelta(days=7)), World(now=NOW)
    for endpoint in ("reviews", "nps-responses", "prj-responses"):
        before, after = set(earlier.tables[endpoint].by_key), set(later.tables[endpoint].by_key)
        assert before <= after
    assert 80 < len(later.tables["reviews"].rows) - len(earlier.tables["reviews"].rows) < 250


def test_time_does_not_run_back(world: World) -> None:
    world.advance(to=NOW - timedelta(days=1))
    assert world.now == NOW


def test_another_seed_is_another_account(world: World) -> None:
    assert fingerprint(World(seed=8, now=NOW))["reviews"] != fingerprint(world)["reviews"]


def test_a_larger_scale_brings_more_reviews_but_no_more_people() -> None:
    now = datetime(2024, 4, 1, tzinfo=UTC)
    usual, larger = World(now=now), World(now=now, scale=5)
    assert len(larger.tables["reviews"].rows) == pytest.approx(5 * len(usual.tables["reviews"].rows), rel=0.05)
    assert fingerprint(larger)["csat-contacts"] == fingerprint(usual)["csat-contacts"]


# Lifelike


def test_the_account_is_of_the_intended_size(world: World) -> None:
    assert 12_000 < len(world.live("reviews")) < 20_000
    assert len(world.live("csat-boards")) == 8
    assert 20 <= len(world.live("csat-agents")) <= 30
    assert 60 <= len(world.live("csat-companies")) <= 85
    assert [campaign["name"] for campaign in world.live("nps-campaigns")[-2:]] == ["2025 Q4", "2026 Q1"]
    assert 1_000 < len(world.live("nps-responses")) < 3_000
    categories = defaultdict(set)
    for record in world.live("prj-responses"):
        response = record["response"]
        categories[response["survey_name"]].update(rating["question"] for rating in response["ratings"])
    assert set(categories) == {survey["name"] for survey in world.live("prj-surveys")}
    assert {len(names) for names in categories.values()} == {5, 6}


@pytest.mark.parametrize("seed", range(1, 9))
def test_whatever_the_seed_each_list_fits_on_a_page_and_years_go_by(seed: int) -> None:
    world = World(seed=seed, now=datetime(2024, 3, 1, tzinfo=UTC))
    world.advance(to=datetime(2024, 3, 8, tzinfo=UTC))
    assert sum(len(company.contacts) for company in world.history.cast.companies) <= 900
    for day in range(0, 3650, 5):
        staffed = {
            board
            for agent in world.history.cast.agents
            if agent.is_active(date(2024, 1, 1) + timedelta(days=day))
            for board in agent.board_ids
        }
        assert staffed == {board.id for board in world.history.cast.boards}


def test_by_default_nothing_is_wrong_with_any_record(world: World) -> None:
    for endpoint in ENDPOINTS:
        assert all(oracle.is_valid(endpoint, record) for record in world.live(endpoint))


def test_most_surveys_are_never_answered(world: World) -> None:
    reviews = world.live("reviews")
    assert 0.6 < sum(review["rating"] is None for review in reviews) / len(reviews) < 0.7


def test_the_office_is_busy_on_weekdays_by_day_and_quiet_at_weekends(world: World) -> None:
    zone = ZoneInfo(world.timezone)
    closings = [
        instant(review["ticket"]["closed_on"]).astimezone(zone)
        for review in world.live("reviews")
        if review["ticket"] and review["ticket"]["closed_on"]
    ]
    by_weekday = Counter(closing.weekday() for closing in closings)
    assert by_weekday[0] > by_weekday[4] > 8 * by_weekday[5] > 0
    assert sum(7 <= closing.hour < 19 for closing in closings) / len(closings) > 0.95


def test_an_outage_shows_in_volume_and_mood(world: World) -> None:
    outage = world.history.seasons.outage(2025)
    days = [(outage + timedelta(days=n)).isoformat() for n in range(4)]
    rated = [review for review in world.live("reviews") if review["rating"] is not None]
    during = [review for review in rated if review["rated_on"][:10] in days]
    assert len(during) > 40
    assert net_csat(during) < net_csat(rated) - 35


def test_companies_have_good_and_bad_times(world: World) -> None:
    halves = defaultdict(list)
    for review in world.live("reviews"):
        if review["rating"] is not None and review["company"]:
            year, month = review["rated_on"][:4], int(review["rated_on"][5:7])
            halves[review["company"]["id"], f"{year}-{(month + 5) // 6}"].append(review)
    scores = defaultdict(list)
    for (company, _), reviews in sorted(halves.items()):
        if len(reviews) >= 12:
            scores[company].append(net_csat(reviews))
    swings = [max(halves) - min(halves) for halves in scores.values() if len(halves) > 1]
    assert len(swings) > 15
    assert sum(swing > 40 for swing in swings) >= 4
    assert sum(swing < 20 for swing in swings) >= 4


def test_good_and_weak_agents_can_be_told_apart(world: World) -> None:
    by_agent = defaultdict(list)
    for review in world.live("reviews"):
        for agent in set((review["ticket"] or {}).get("agents") or []) if review["rating"] is not None else ():
            by_agent[agent].append(review)
    scores = sorted(net_csat(reviews) for reviews in by_agent.values() if len(reviews) > 100)
    assert scores[-1] - scores[0] > 15


def test_reviews_change_in_every_way_that_a_replica_must_follow() -> None:
    world = World(now=NOW - timedelta(days=120))
    seen = {row.key: world.get("reviews", row.key) for row in world.tables["reviews"].rows}
    world.advance(to=NOW)
    kinds: Counter[str] = Counter()
    for review_id, old in seen.items():
        new = world.get("reviews", review_id)
        if new == old:
            continue
        assert instant(old["last_modified"]) < instant(new["last_modified"]) <= NOW
        kinds["rated"] += old["rating"] is None and new["rating"] is not None
        kinds["re-rated"] += old["rating"] is not None and old["rating"] != new["rating"]
        kinds["viewed"] += old["viewed_on"] is None and new["viewed_on"] is not None
        kinds["done"] += (old["status"], new["status"]) == ("open", "done")
        kinds["moved"] += bool(old["company"] and new["company"] and old["company"]["id"] != new["company"]["id"])
        kinds["deleted"] += new["status"] == "deleted"
    assert set(kinds) == {"rated", "re-rated", "viewed", "done", "moved", "deleted"}
    assert min(kinds.values()) >= 1


def test_a_deleted_review_is_sometimes_restored() -> None:
    world = World(now=datetime(2024, 2, 1, tzinfo=UTC))
    deleted, restored = set(), set()
    while world.now < datetime(2025, 6, 1, tzinfo=UTC):
        since = microseconds(world.now)
        world.advance(to=world.now + timedelta(days=1))
        for row in world.tables["reviews"].rows.irange_key((since, 0)):
            if b'"status":"deleted"' in row.body:
                deleted.add(row.key)
            elif row.key in deleted:
                restored.add(row.key)
    assert 0 < len(restored) < len(deleted) / 3


def test_an_nps_response_is_edited_without_a_sign() -> None:
    world = World(now=NOW - timedelta(days=25))
    seen = {record["id"]: record for record in world.live("nps-responses")}
    world.advance(to=NOW)
    edited = [record for record in world.live("nps-responses") if seen.get(record["id"], record) != record]
    assert edited
    for record in edited:
        assert record == seen[record["id"]] | {"score": record["score"]}


def test_more_than_a_page_of_reviews_shares_one_stamp(world: World) -> None:
    stamps = Counter(review["last_modified"] for review in world.live("reviews"))
    assert stamps["2024-09-14T03:00:00Z"] > 1_500
    assert sum(number > 20 for number in stamps.values()) > 12  # the monthly clean-ups


def test_every_rare_shape_of_the_wire_occurs(world: World) -> None:
    reviews = world.live("reviews")
    tickets = [review["ticket"] for review in reviews if review["ticket"]]
    agents = [ticket["agents"] for ticket in tickets if ticket["agents"] is not None]
    comments = [review["comment"] for review in reviews if review["comment"] is not None]
    occurs = {
        "no ticket": any(review["ticket"] is None for review in reviews),
        "no contact": any(review["contact"] is None for review in reviews),
        "no company": any(review["company"] is None for review in reviews),
        "no tags": any(review["tags"] is None for review in reviews),
        "no board": any(ticket["segment"] is None for ticket in tickets),
        "no agents": any(ticket["agents"] is None for ticket in tickets),
        "no closing": any(ticket["closed_on"] is None for ticket in tickets),
        "an empty list of agents": [] in agents,
        "two agents": any(len(set(names)) == 2 for names in agents),
        "an agent twice": any(len(names) == 2 and names[0] == names[1] for names in agents),
        "a blank agent": any("" in names for names in agents),
        "a null agent": any(None in names for names in agents),
        "a rating as text": any(isinstance(review["rating"], str) for review in reviews),
        "a stamp with a fraction": any("." in review["last_modified"] for review in reviews),
        "a stamp without": any("." not in review["last_modified"] for review in reviews),
        "emoji": any("👍" in comment for comment in comments),
        "a quote": any('"' in comment for comment in comments),
        "lines": any("\n" in comment for comment in comments),
        "SQL": any("DROP TABLE" in comment for comment in comments),
        "HTML": any("<script>" in comment for comment in comments),
        "a formula": any(comment.startswith("=") for comment in comments),
        "an empty comment": "" in comments,
        "a long comment": any(len(comment) > 1_000 for comment in comments),
        "an agent in lower case": any(name and name.islower() for names in agents for name in names),
        "an nps response without a comment": any(r["comment"] is None for r in world.live("nps-responses")),
        "an nps response without a contact": any(r["contact"] is None for r in world.live("nps-responses")),
        "a blank remote id": any(r["contact"]["remote_id"] == "" for r in world.live("prj-responses")),
        "one name for two companies": 2 in Counter(c["name"] for c in world.live("csat-companies")).values(),
    }
    assert [shape for shape, does in occurs.items() if not does] == []


def test_stamps_are_written_as_on_the_wire(world: World) -> None:
    for review in world.live("reviews"):
        assert review["last_modified"].endswith("Z")
        assert not review["last_modified"].endswith(("000000Z", "+00:00"))
    assert all(len(r["created_at"]) in (20, 24) for r in world.live("nps-responses"))
    assert all(r["response"]["date"].endswith("+00:00") for r in world.live("prj-responses"))


def test_people_and_addresses_are_invented(world: World) -> None:
    emails = [contact["email"] for contact in world.live("csat-contacts")]
    emails += [agent["email"] for agent in world.live("csat-agents")]
    assert all(email.endswith((".example.com", "@msp.example")) for email in emails)
    assert all(email.isascii() for email in emails)


# Easy to change


def test_an_empty_world_holds_what_is_put_there_as_it_is() -> None:
    world = World.empty(now=NOW)
    assert [len(world.live(endpoint)) for endpoint in ENDPOINTS] == [0] * 9
    wrong = {"id": 1, "rating": 7, "last_modified": "yesterday"}
    world.put("reviews", wrong)
    world.put("reviews", {"rating": 1})
    world.put("reviews", {"rating": 1})
    assert world.live("reviews") == [wrong, {"rating": 1}, {"rating": 1}]
    assert oracle.records_of(world)["reviews"] == []
    world.advance(to=NOW + timedelta(days=30))
    assert len(world.live("reviews")) == 3


def test_to_put_a_record_with_a_known_id_replaces_it() -> None:
    world = World.empty(now=NOW)
    for comment in ("first", "second"):
        world.put("nps-responses", {"id": 5, "score": 9, "comment": comment, "created_at": "2026-01-01T00:00:00Z"})
        world.put("prj-responses", {"response": {"id": "a", "comment": comment}, "contact": {}})
    assert [record["comment"] for record in world.live("nps-responses")] == ["second"]
    assert [record["response"]["comment"] for record in world.live("prj-responses")] == ["second"]


def test_an_edited_review_is_stamped_and_filed_anew() -> None:
    world = World.empty(now=NOW)
    for n in (1, 2, 3):
        world.put("reviews", {"id": n, "rating": None, "status": "open", "last_modified": f"2026-01-0{n}T00:00:00Z"})
    world.edit_review(1, rating=1)
    world.edit_review(3, at=NOW + timedelta(days=1, microseconds=5), status="done")
    assert [(r["id"], r["rating"], r["status"], r["last_modified"]) for r in world.live("reviews")] == [
        (2, None, "open", "2026-01-02T00:00:00Z"),
        (1, 1, "open", "2026-03-18T15:30:00Z"),
        (3, None, "done", "2026-03-19T15:30:00.000005Z"),
    ]


def test_a_removed_record_stays_away_and_a_deleted_review_is_no_longer_live() -> None:
    world = World(now=NOW - timedelta(days=1))
    newest = [review["id"] for review in world.live("reviews")[-40:]]
    for review_id in newest[:-1]:
        world.remove("reviews", review_id)
    world.edit_review(newest[-1], status="deleted")
    assert newest[-1] not in {review["id"] for review in world.live("reviews")}
    assert world.get("reviews", newest[-1])["status"] == "deleted"
    world.advance(to=NOW)
    assert {review["id"] for review in world.live("reviews")}.isdisjoint(newest[:-1])
    with pytest.raises(KeyError):
        world.remove("reviews", newest[0])
