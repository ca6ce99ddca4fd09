"""The oracle against small accounts, computed by hand."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from smileback_pipeline.sandbox import ENDPOINTS, World
from smileback_pipeline_tests import oracle
from smileback_pipeline_tests.oracle import Score, ScoreKey

Account = dict[str, list[dict[str, Any]]]


def account(**records: list[dict[str, Any]]) -> Account:
    return {endpoint: records.get(endpoint.replace("-", "_"), []) for endpoint in ENDPOINTS}


def review(review_id: int, rating: Any = None, rated_on: str | None = None, **fields: Any) -> dict[str, Any]:
    """A review whose ticket closed at noon of 2 January 2026, a Friday."""
    ticket = {
        "id": "1",
        "title": "x",
        "segment": {"id": "1", "name": "Desk"},
        "agents": ["AK"],
        "closed_on": "2026-01-02T12:00:00Z",
    }
    company, contact = {"id": "500", "name": "Acme"}, {"id": "9", "name": "Kim"}
    return {
        "id": review_id,
        "rating": rating,
        "ticket": ticket | fields.pop("ticket_fields", {}),
        "company": company,
        "contact": contact,
        "status": "open",
        "rated_on": rated_on,
        "last_modified": "2026-01-09T00:00:00Z",
    } | fields


def nps(response_id: int, score: int, created_at: str = "2026-02-10T12:00:00Z", **fields: Any) -> dict[str, Any]:
    contact = {"company": fields.pop("company", "Acme")}
    return {
        "id": response_id,
        "score": score,
        "created_at": created_at,
        "campaign_name": "Q1",
        "contact": contact,
    } | fields


def project(date: str, survey: str | None, company: str, **ratings: int) -> dict[str, Any]:
    questions = [{"question": question, "rating": rating} for question, rating in ratings.items()]
    response = {"id": date + str(survey), "survey_name": survey, "project_company": company, "date": date}
    return {"response": response | {"ratings": questions}, "contact": {}}


def score(records: Account, *key: Any, timezone: str = "UTC") -> Score | None:
    return oracle.scores(records, timezone).get(ScoreKey(*key))


THREE_DAYS = account(
    reviews=[
        review(1, 1, "2026-01-02T13:00:00Z"),
        review(2, "1", "2026-01-02T23:59:59.999999Z"),
        review(3, 0, "2026-01-03T00:00:00Z"),
        review(4, -1, "2026-01-05T08:00:00Z"),
        review(5, None),
        review(6, 1, "2026-01-05T08:00:00Z", status="deleted"),
    ]
)


# Daily marts


def test_ratings_count_on_the_day_they_were_given() -> None:
    assert oracle.csat_daily(THREE_DAYS, "UTC") == [
        (date(2026, 1, 2), 2, 2, 0, 0, 100.0),
        (date(2026, 1, 3), 1, 0, 1, 0, 0.0),
        (date(2026, 1, 5), 1, 0, 0, 1, -100.0),
    ]


def test_the_time_zone_cuts_the_days() -> None:
    assert [row[:2] for row in oracle.csat_daily(THREE_DAYS, "America/New_York")] == [
        (date(2026, 1, 2), 3),
        (date(2026, 1, 5), 1),
    ]
    assert [row[:2] for row in oracle.csat_daily(THREE_DAYS, "Asia/Tokyo")] == [
        (date(2026, 1, 2), 1),
        (date(2026, 1, 3), 2),
        (date(2026, 1, 5), 1),
    ]


def test_a_day_is_cut_in_its_own_offset_when_clocks_change() -> None:
    records = account(reviews=[review(1, 1, "2026-03-28T22:30:00Z"), review(2, 1, "2026-03-29T22:30:00Z")])
    assert [row[0] for row in oracle.csat_daily(records, "Europe/Berlin")] == [date(2026, 3, 28), date(2026, 3, 30)]


def test_a_rating_without_its_time_counts_on_the_day_of_the_last_change() -> None:
    records = account(reviews=[review(1, 1, None)])
    assert oracle.csat_daily(records, "UTC") == [(date(2026, 1, 9), 1, 1, 0, 0, 100.0)]


def test_net_csat_is_the_mean_of_hundreds() -> None:
    ratings = [1, 1, 1, 0, -1, -1, 1]
    records = account(reviews=[review(n, rating, "2026-01-02T13:00:00Z") for n, rating in enumerate(ratings)])
    assert oracle.csat_daily(records, "UTC") == [(date(2026, 1, 2), 7, 4, 1, 2, pytest.approx(200 / 7))]


def test_the_response_rate_belongs_to_the_day_the_ticket_closed() -> None:
    records = account(
        reviews=[
            review(1, 1, "2026-01-04T00:00:00Z"),
            review(2),
            review(3),
            review(4, 1, "2026-01-04T00:00:00Z", ticket_fields={"closed_on": None}),
            review(5, None, ticket=None),
            review(6, None, status="deleted"),
        ]
    )
    assert oracle.csat_response_daily(records, "UTC") == [
        (date(2026, 1, 2), 3, 1, pytest.approx(1 / 3)),
        (date(2026, 1, 4), 1, 1, 1.0),
        (date(2026, 1, 9), 1, 0, 0.0),
    ]


def test_nps_is_promoters_less_detractors_of_all() -> None:
    records = account(nps_responses=[nps(n, n) for n in range(11)] + [nps(11, 10, "2026-02-11T00:00:00Z")])
    assert oracle.nps_daily(records, "UTC") == [
        (date(2026, 2, 10), 11, 2, 2, 7, pytest.approx(-500 / 11)),
        (date(2026, 2, 11), 1, 1, 0, 0, 100.0),
    ]


def test_projects_are_counted_by_survey_and_category() -> None:
    records = account(
        prj_responses=[
            project("2026-01-02T10:00:00+00:00", "Close-out", "Acme", Budget=5, Time=3),
            project("2026-01-02T11:00:00+00:00", "Close-out", "Beta", Budget=2),
            project("2026-01-02T12:00:00+00:00", "Kick-off", "Beta", Budget=4),
        ]
    )
    assert oracle.project_survey_daily(records, "UTC") == [
        (date(2026, 1, 2), "Close-out", "Budget", 2, 7, 3.5),
        (date(2026, 1, 2), "Close-out", "Time", 1, 3, 3.0),
        (date(2026, 1, 2), "Kick-off", "Budget", 1, 4, 4.0),
    ]


# Scores


def test_a_period_has_the_score_of_its_responses_not_the_mean_of_its_days() -> None:
    records = account(
        reviews=[review(n, 1, "2026-03-31T10:00:00Z") for n in range(3)] + [review(9, -1, "2026-04-01T10:00:00Z")]
    )

    def net_csat(grain: str, period_start: date | None) -> Score | None:
        return score(records, "net_csat", grain, period_start, "all", "all")

    assert net_csat("day", date(2026, 3, 31)) == (3, 100.0)
    assert net_csat("week", date(2026, 3, 30)) == (4, 50.0)
    assert net_csat("month", date(2026, 4, 1)) == (1, -100.0)
    assert net_csat("quarter", date(2026, 1, 1)) == (3, 100.0)
    assert net_csat("quarter", date(2026, 4, 1)) == (1, -100.0)
    assert net_csat("year", date(2026, 1, 1)) == (4, 50.0)
    assert net_csat("all", None) == (4, 50.0)
    assert net_csat("day", date(2026, 4, 2)) is None


def test_a_week_starts_on_monday() -> None:
    records = account(reviews=[review(1, 1, "2026-01-04T10:00:00Z"), review(2, 1, "2026-01-05T10:00:00Z")])
    weeks = [key.period_start for key in oracle.scores(records, "UTC") if key[:2] == ("net_csat", "week")]
    assert set(weeks) == {date(2025, 12, 29), date(2026, 1, 5)}


def test_two_agents_count_for_each_and_once_for_all() -> None:
    records = account(
        reviews=[
            review(1, 1, "2026-01-02T13:00:00Z", ticket_fields={"agents": ["AK", "NF"]}),
            review(2, -1, "2026-01-02T13:00:00Z", ticket_fields={"agents": ["AK", "AK", "", None, " "]}),
            review(3, 0, "2026-01-02T13:00:00Z", ticket_fields={"agents": None}),
            review(4, 0, "2026-01-02T13:00:00Z", ticket=None),
            review(5, 1, "2026-01-02T13:00:00Z", ticket_fields={"agents": ["ak"]}),
        ]
    )
    by_agent = {
        key.member: value
        for key, value in oracle.scores(records, "UTC").items()
        if (key.metric, key.grain, key.dimension) == ("net_csat", "all", "agent")
    }
    assert by_agent == {"AK": (2, 0.0), "NF": (1, 100.0), "ak": (1, 100.0)}
    assert score(records, "net_csat", "all", None, "all", "all") == (5, 20.0)


def test_what_belongs_to_no_member_counts_in_all_only() -> None:
    records = account(
        reviews=[
            review(1, 1, "2026-01-02T13:00:00Z", company=None, contact={"id": None, "name": "Who"}),
            review(2, 1, "2026-01-02T13:00:00Z", ticket_fields={"segment": None}),
        ],
        nps_responses=[nps(1, 9, contact=None, campaign_name=None), nps(2, 0, company=" ")],
    )
    found = oracle.scores(records, "UTC")
    totals = {key[0::3]: (key.member, value) for key, value in found.items() if key.grain == "all"}
    assert totals == {
        ("net_csat", "all"): ("all", (2, 100.0)),
        ("net_csat", "agent"): ("AK", (2, 100.0)),
        ("net_csat", "board"): ("Desk", (1, 100.0)),
        ("net_csat", "company"): ("Acme", (1, 100.0)),
        ("net_csat", "contact"): ("Kim", (1, 100.0)),
        ("response_rate", "all"): ("all", (2, 1.0)),
        ("response_rate", "agent"): ("AK", (2, 1.0)),
        ("response_rate", "board"): ("Desk", (1, 1.0)),
        ("response_rate", "company"): ("Acme", (1, 1.0)),
        ("response_rate", "contact"): ("Kim", (1, 1.0)),
        ("nps", "all"): ("all", (2, 0.0)),
        ("nps", "campaign"): ("Q1", (1, -100.0)),
    }


def test_the_project_score_is_the_mean_of_the_categories_means() -> None:
    records = account(
        prj_responses=[
            project("2026-01-02T10:00:00+00:00", "Close-out", "Acme", Budget=5, Time=1),
            project("2026-02-02T10:00:00+00:00", "Close-out", "Acme", Budget=3),
            project("2026-02-03T10:00:00+00:00", "Kick-off", "Beta", Budget=1, Team=4),
        ]
    )

    def project_score(*key: Any) -> Score | None:
        return score(records, "project_survey_score", *key)

    # Budget 3, Time 1, Team 4: neither the mean of ratings (2.8) nor of responses (2.83) nor of months.
    assert project_score("all", None, "all", "all") == (5, pytest.approx(8 / 3))
    assert project_score("all", None, "survey", "Close-out") == (3, 2.5)
    assert project_score("all", None, "company", "Beta") == (2, 2.5)
    assert project_score("all", None, "category", "Budget") == (3, 3.0)
    assert project_score("month", date(2026, 2, 1), "all", "all") == (3, 3.0)
    assert project_score("month", date(2026, 2, 1), "category", "Budget") == (2, 2.0)
    assert project_score("month", date(2026, 1, 1), "all", "all") == (2, 3.0)


def test_a_repeated_edit_of_one_answer_is_one_answer() -> None:
    world = World.empty(now=datetime(2026, 1, 10, tzinfo=UTC))
    world.put("reviews", review(1, -1, "2026-01-02T13:00:00Z"))
    world.edit_review(1, rating=1)
    world.put("reviews", review(2, 1, "2026-01-02T13:00:00Z"))
    world.edit_review(2, status="deleted")
    assert oracle.csat_daily(oracle.records_of(world), "UTC") == [(date(2026, 1, 2), 1, 1, 0, 0, 100.0)]


# Names


def test_a_member_is_called_as_in_the_list_else_as_of_late_else_by_its_id() -> None:
    def of(review_id: int, company_id: str, name: str | None, last_modified: str | None) -> dict[str, Any]:
        return review(review_id, company={"id": company_id, "name": name}, last_modified=last_modified)

    records = account(
        reviews=[
            of(1, "1", "Old", "2026-01-09T00:00:00.5Z"),
            of(2, "1", "New", "2026-01-10T00:00:00Z"),
            of(3, "1", None, "2026-01-11T00:00:00Z"),
            of(4, "2", "Said", "2026-01-09T00:00:00Z"),
            of(5, "3", " ", "2026-01-09T00:00:00Z"),
            of(6, "4", "Later", "2026-01-09T00:00:00.000001Z"),
            of(7, "4", "Earlier", "2026-01-09T00:00:00Z"),
            of(8, "4", "Timeless", None),
        ],
        csat_companies=[{"id": "2", "name": "Listed"}, {"id": "5", "name": "Silent"}],
    )
    names = oracle.member_names(records, "company")
    assert names == {"1": "New", "2": "Listed", "3": "3", "4": "Later", "5": "Silent"}


def test_members_that_share_a_name_carry_their_ids() -> None:
    records = account(
        reviews=[
            review(1, 1, "2026-01-02T13:00:00Z"),
            review(2, -1, "2026-01-02T13:00:00Z", company={"id": "501", "name": "Acme"}),
        ]
    )
    assert score(records, "net_csat", "all", None, "company", "Acme (500)") == (1, 100.0)
    assert score(records, "net_csat", "all", None, "company", "Acme (501)") == (1, -100.0)
    assert score(records, "net_csat", "all", None, "company", "Acme") is None


# Validity


@pytest.mark.parametrize(
    ("endpoint", "record", "is_valid"),
    [
        ("reviews", review(1, 1), True),
        ("reviews", review(1, "-1"), True),
        ("reviews", review(1, 7), False),
        ("reviews", review(1, "great"), False),
        ("reviews", review(1, 0.5), False),
        ("reviews", review(None, 1), False),  # type: ignore[arg-type]
        ("reviews", review(1, 1, "yesterday"), False),
        ("reviews", review(1, 1, viewed_on="2026-13-01T00:00:00Z"), False),
        ("reviews", review(1, ticket=None, last_modified=None), False),
        ("reviews", review(1, last_modified=None), True),
        ("nps-responses", nps(1, 0), True),
        ("nps-responses", nps(1, 11), False),
        ("nps-responses", nps(1, None), False),  # type: ignore[arg-type]
        ("nps-responses", nps(1, 5, "soon"), False),
        ("prj-responses", project("2026-01-02T10:00:00+00:00", None, "Acme", Budget=5), True),
        ("prj-responses", project("2026-01-02T10:00:00+00:00", "x", "Acme", Budget=6), False),
        ("prj-responses", project("", "x", "Acme", Budget=5), False),
        ("csat-boards", {"id": "1"}, True),
        ("csat-boards", {"name": "Desk"}, False),
    ],
)
def test_a_record_that_cannot_be_right_is_told_apart(endpoint: str, record: dict[str, Any], is_valid: bool) -> None:
    assert oracle.is_valid(endpoint, record) is is_valid


# Against the sandbox as a whole


def test_the_scores_of_the_sandbox_agree_with_the_daily_marts() -> None:
    records = oracle.records_of(World(now=datetime(2024, 4, 1, tzinfo=UTC)))
    scores = oracle.scores(records, "America/Chicago")
    days = oracle.csat_daily(records, "America/Chicago")
    assert len(days) > 80
    for day, count_ratings, *_, net_csat in days:
        assert scores[ScoreKey("net_csat", "day", day, "all", "all")] == (count_ratings, net_csat)
    total = scores[ScoreKey("net_csat", "all", None, "all", "all")]
    assert total.count_responses == sum(row[1] for row in days)
    assert total.value == pytest.approx(100 * sum(row[2] - row[4] for row in days) / total.count_responses)
    boards = [value for key, value in scores.items() if key[:2] == ("net_csat", "all") and key.dimension == "board"]
    assert len(boards) == 8
    assert sum(board.count_responses for board in boards) <= total.count_responses


def test_rows_are_compared_but_for_the_last_digits_of_a_float() -> None:
    assert oracle.is_same([(1, 0.1 + 0.2, None)], [(1, 0.3, None)])
    assert oracle.is_same({"a": (1, 100.0)}, {"a": Score(1, 100)})
    assert not oracle.is_same([(1, 0.30001)], [(1, 0.3)])
    assert not oracle.is_same([(1, 0.3)], [(1, 0.3), (2, 0.3)])
    assert not oracle.is_same({"a": 1.0}, {"b": 1.0})
    assert not oracle.is_same([None], [0.0])
