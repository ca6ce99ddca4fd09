"""The dbt project, run on real DuckDB files whose scores were worked out by hand.

The tests of this module tell one story in order, on one file, since each run of dbt takes seconds.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from smileback_pipeline.assets.dbt import run_dbt
from smileback_pipeline_tests.replica_fixture import Replica, Rows, write_replica

DBT_PROJECT = Path(__file__).resolve().parent.parent / "dbt_project"
OCT_1, OCT_25, OCT_26, OCT_27, OCT_28 = (date(2025, 10, day) for day in (1, 25, 26, 27, 28))
DEC_31, JAN_1 = date(2025, 12, 31), date(2026, 1, 1)
MAR_30, MAR_31 = date(2025, 3, 30), date(2025, 3, 31)
JUN_2, JUN_3 = date(2025, 6, 2), date(2025, 6, 3)
THIRD, MINUS_THIRD = pytest.approx(100 / 3), pytest.approx(-100 / 3)

BOARD_1 = {"ticket_segment_id": "b1", "ticket_segment_name": "Engineering"}
BOARD_2 = {"ticket_segment_id": "b2", "ticket_segment_name": "Sales"}
ACME_1 = {"company_id": "c1", "company_name": "Acme"}
ACME_2 = {"company_id": "c2", "company_name": "Acme"}
NAMELESS = {"contact_id": "p1", "contact_name": " "}
ZOE = {"contact_id": "p2", "contact_name": "Zoë"}

# Berlin keeps summer time (+2) until 01:00 UTC on Sunday, 26 October 2025.
REVIEWS: Rows = {
    1: {  # Rated in the last microsecond of the 25th in Berlin.
        "rating": 1,
        "ticket_closed_on": "2025-10-25T10:00:00Z",
        "rated_on": "2025-10-25T21:59:59.999999Z",
        "ticket_agents": ["AK", "NF"],
        **BOARD_1,
        **ACME_1,
        **NAMELESS,
    },
    2: {  # In the first of the 26th; closed on the 25th.
        "rating": -1,
        "ticket_closed_on": "2025-10-25T21:00:00Z",
        "rated_on": "2025-10-25T22:00:00Z",
        "ticket_agents": ["AK", "AK", " ", None, "ak"],
        "status": "open",
        **BOARD_1,
        **ACME_2,
        **NAMELESS,
    },
    3: {  # In the last second of the 26th, in winter time by now; never closed.
        "rating": 0,
        "rated_on": "2025-10-26T22:59:59Z",
        "ticket_agents": [],
        **ZOE,
    },
    4: {  # In the first of the 27th, a Monday.
        "rating": 1,
        "ticket_closed_on": "2025-10-26T12:00:00Z",
        "rated_on": "2025-10-26T23:00:00Z",
        "ticket_agents": ["NF"],
        **BOARD_1,
        **ACME_2,
        **ZOE,
    },
    5: {
        "rating": None,
        "ticket_closed_on": "2025-10-25T12:00:00Z",
        "ticket_agents": ["AK"],
        **BOARD_1,
        **ACME_2,
        **ZOE,
    },
    6: {"rating": None, "last_modified": "2025-10-27T12:00:00Z"},
    7: {  # Rated without a stamp for it: by the last modification in the next year; closed in the old one.
        "rating": -1,
        "ticket_closed_on": "2025-12-31T22:00:00Z",
        "last_modified": "2025-12-31T23:30:00Z",
        "ticket_agents": ["AK"],
        "contact_id": " ",
        **BOARD_2,
        **ACME_2,
    },
}
# Summer time starts at 01:00 UTC on Sunday, 30 March 2025.
NPS_RESPONSES: Rows = {
    1: {"score": 9, "created_at": "2025-03-30T00:30:00Z", "campaign_name": "Q1", "contact_company": "Acme"},
    2: {"score": 6, "created_at": "2025-03-29T23:30:00Z", "campaign_name": "Q1", "contact_company": " "},
    3: {"score": 7, "created_at": "2025-03-30T21:59:00Z", "campaign_name": None},
    4: {"score": 0, "created_at": "2025-03-30T22:00:00Z", "campaign_name": "Q2", "contact_company": "Acme"},
}


def _answers(**ratings: int) -> list[dict[str, object]]:
    return [
        {"question": question, "rating": rating, "seq_number": number}
        for number, (question, rating) in enumerate(ratings.items(), 1)
    ]


CLOSE_OUT = {"survey_name": "Close-out", "project_company": "Acme"}
KICK_OFF = {"survey_name": "Kick-off", "project_company": "Bolt"}
PRJ_RESPONSES: Rows = {
    "r1": {"date": "2025-06-02T10:00:00Z", "ratings": _answers(Budget=5, Time=1), **CLOSE_OUT},
    "r2": {"date": "2025-06-03T10:00:00Z", "ratings": _answers(Time=2), **CLOSE_OUT},
    "r3": {"date": "2025-06-03T11:00:00Z", "ratings": _answers(Time=3), **KICK_OFF},
    "r4": {"date": "2025-06-04T11:00:00Z", "ratings": None, **CLOSE_OUT},
    "r5": {"date": "2025-06-04T11:00:00Z", "ratings": [], **CLOSE_OUT},
}
REPLICA: Replica = {
    "reviews": REVIEWS,
    "nps_responses": NPS_RESPONSES,
    "prj_responses": PRJ_RESPONSES,
    "csat_boards": {"b1": {"name": "Engineering"}},
    "csat_companies": {"c1": {"name": "Acme"}},
}


def near(value: float) -> Any:
    """Equal to what was worked out to three digits."""
    return pytest.approx(value, abs=0.001)


class Warehouse(NamedTuple):
    """The file, and dbt to run on it."""

    path: Path
    scratch: Path

    def dbt(self, *arguments: str, timezone: str = "Europe/Berlin") -> subprocess.CompletedProcess[str]:
        """Run dbt as a user would, on this file."""
        return subprocess.run(
            [sys.executable, "-m", "dbt.cli.main", *arguments, *self._scratch_paths],
            cwd=DBT_PROJECT,
            env={**os.environ, "SMILEBACK_DUCKDB_PATH": str(self.path), "SMILEBACK_TIMEZONE": timezone},
            capture_output=True,
            text=True,
        )

    @property
    def _scratch_paths(self) -> list[str]:
        return ["--target-path", str(self.scratch / "target"), "--log-path", str(self.scratch / "logs")]

    def build(self, *arguments: str, timezone: str = "Europe/Berlin") -> None:
        done = self.dbt("build", *arguments, timezone=timezone)
        assert done.returncode == 0, done.stdout

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(duckdb.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()

    def scores(self, metric: str, grain: str, dimension: str = "all") -> dict[Any, tuple[int, float]]:
        """Number of answers and value, by member or, for dimension `all`, by start of the period."""
        key = "period_start" if dimension == "all" else "member"
        rows = self.query(
            f"select {key}, count_responses, value from marts.scores "
            f"where metric = '{metric}' and grain = '{grain}' and dimension = '{dimension}'"
        )
        assert len({row[0] for row in rows}) == len(rows)
        return {row[0]: row[1:] for row in rows}

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every mart."""
        marts = self.query("select table_name from information_schema.tables where table_schema = 'marts'")
        return {mart: sorted(self.query(f"from marts.{mart}"), key=repr) for (mart,) in marts}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    scratch = tmp_path_factory.mktemp("marts")
    warehouse = Warehouse(scratch / "warehouse.duckdb", scratch)
    write_replica(warehouse.path, REPLICA, pending_days=[])
    warehouse.build()
    return warehouse


@pytest.fixture(scope="module")
def first_dump(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    return warehouse.dump()


def test_daily_marts_cut_days_in_the_reporting_time_zone(
    warehouse: Warehouse, first_dump: dict[str, list[tuple[Any, ...]]]
) -> None:
    assert first_dump["csat_daily"] == [
        (OCT_25, 1, 1, 0, 0, 100.0),
        (OCT_26, 2, 0, 1, 1, -50.0),
        (OCT_27, 1, 1, 0, 0, 100.0),
        (JAN_1, 1, 0, 0, 1, -100.0),
    ]
    assert first_dump["csat_response_daily"] == [
        (OCT_25, 3, 2, pytest.approx(2 / 3)),
        (OCT_26, 2, 2, 1.0),
        (OCT_27, 1, 0, 0.0),
        (DEC_31, 1, 1, 1.0),
    ]
    assert first_dump["nps_daily"] == [(MAR_30, 3, 1, 1, 1, 0.0), (MAR_31, 1, 0, 0, 1, -100.0)]
    assert first_dump["project_survey_daily"] == [
        (JUN_2, "Close-out", "Budget", 1, 5, 5.0),
        (JUN_2, "Close-out", "Time", 1, 1, 1.0),
        (JUN_3, "Close-out", "Time", 1, 2, 2.0),
        (JUN_3, "Kick-off", "Time", 1, 3, 3.0),
    ]


def test_a_period_is_scored_from_its_answers(warehouse: Warehouse) -> None:
    assert warehouse.scores("net_csat", "day") == {
        OCT_25: (1, 100.0),
        OCT_26: (2, -50.0),
        OCT_27: (1, 100.0),
        JAN_1: (1, -100.0),
    }
    assert warehouse.scores("net_csat", "week") == {
        date(2025, 10, 20): (3, 0.0),
        date(2025, 10, 27): (1, 100.0),
        date(2025, 12, 29): (1, -100.0),
    }
    assert warehouse.scores("net_csat", "month") == {date(2025, 10, 1): (4, 25.0), JAN_1: (1, -100.0)}
    assert warehouse.scores("net_csat", "quarter") == {date(2025, 10, 1): (4, 25.0), JAN_1: (1, -100.0)}
    assert warehouse.scores("net_csat", "year") == {date(2025, 1, 1): (4, 25.0), JAN_1: (1, -100.0)}
    assert warehouse.scores("net_csat", "all") == {None: (5, 0.0)}
    assert warehouse.scores("response_rate", "year") == {date(2025, 1, 1): (7, pytest.approx(5 / 7))}
    assert warehouse.scores("response_rate", "all") == {None: (7, pytest.approx(5 / 7))}
    assert warehouse.scores("nps", "week") == {date(2025, 3, 24): (3, 0.0), MAR_31: (1, -100.0)}
    assert warehouse.scores("nps", "all") == {None: (4, -25.0)}


def test_a_project_score_is_the_mean_of_its_categories_means(warehouse: Warehouse) -> None:
    assert warehouse.scores("project_survey_score", "all") == {None: (4, 3.5)}
    assert warehouse.scores("project_survey_score", "day") == {JUN_2: (2, 3.0), JUN_3: (2, 2.5)}
    assert warehouse.scores("project_survey_score", "all", "category") == {"Budget": (1, 5.0), "Time": (3, 2.0)}
    assert warehouse.scores("project_survey_score", "all", "survey") == {"Close-out": (3, 3.25), "Kick-off": (1, 3.0)}
    assert warehouse.scores("project_survey_score", "all", "company") == {"Acme": (3, 3.25), "Bolt": (1, 3.0)}


def test_beside_a_score_stand_its_parts_and_its_interval(warehouse: Warehouse) -> None:
    def stated(metric: str, grain: str, period_start: date | None = None, member: str = "all") -> tuple[Any, ...]:
        start = f"'{period_start}'" if period_start else "null"
        (row,) = warehouse.query(
            "select value, value_low, value_high, count_positive, count_neutral, count_negative, is_small_sample "
            f"from marts.scores where metric = '{metric}' and grain = '{grain}' and member = '{member}' "
            f"and period_start is not distinct from {start}"
        )
        return row

    # Adjusted Wald: of 2 positive and 2 negative among 5, (2.75 + 2.75) / 8 varies around 0.
    assert stated("net_csat", "all") == (0.0, near(-57.457), near(57.457), 2, 1, 2, True)
    assert stated("net_csat", "day", OCT_25) == (100.0, near(-48.499), 100.0, 1, 0, 0, True)
    assert stated("net_csat", "day", OCT_26) == (-50.0, near(-79.449), near(39.449), 0, 1, 1, True)
    assert stated("net_csat", "day", JAN_1) == (-100.0, -100.0, near(48.499), 0, 0, 1, True)
    assert stated("nps", "all") == (-25.0, near(-72.731), near(44.160), 1, 1, 2, True)
    # Wilson.
    assert stated("response_rate", "all") == (pytest.approx(5 / 7), near(0.3589), near(0.9178), 5, None, None, True)
    assert stated("response_rate", "day", OCT_27) == (0.0, 0.0, near(0.7935), 0, None, None, True)
    # One rating of 5, and ratings of 1, 2 and 3; together as good as 2 / (1 / 1 + 1 / 3) of each.
    assert stated("project_survey_score", "all", member="Budget") == (5.0, near(1.8262), 5.0, None, None, None, True)
    assert stated("project_survey_score", "all", member="Time")[:3] == (2.0, near(1.1474), near(3.9756))
    assert stated("project_survey_score", "all")[:3] == (3.5, near(1.4593), near(4.8215))


def test_beside_net_csat_stands_the_share_of_positive_ratings(warehouse: Warehouse) -> None:
    def percent(where: str) -> list[tuple[Any, ...]]:
        return warehouse.query(
            f"select csat_percent, csat_percent_low, csat_percent_high from marts.scores where {where}"
        )

    assert percent("metric = 'net_csat' and grain = 'all' and dimension = 'all'") == [
        (40.0, near(11.762), near(76.928))
    ]
    assert percent("metric = 'net_csat' and grain = 'day' and period_start = '2026-01-01' and dimension = 'all'") == [
        (0.0, 0.0, near(79.345))
    ]
    assert set(percent("metric != 'net_csat'")) == {(None, None, None)}


def test_a_rolling_score_is_that_of_its_days_and_compared_with_as_many_before(warehouse: Warehouse) -> None:
    def rolling(metric: str, window_days: int, day: str) -> list[tuple[Any, ...]]:
        return warehouse.query(
            "select count_responses, value, count_responses_before, value_before, value_change "
            "from marts.scores_rolling "
            f"where metric = '{metric}' and window_days = {window_days} and date_day = '{day}' and dimension = 'all'"
        )

    # From 26 October on; the 30 days before end on the 25th.
    assert rolling("net_csat", 30, "2025-11-24") == [(3, 0.0, 1, 100.0, -100.0)]
    assert rolling("net_csat", 30, "2025-11-25") == [(1, 100.0, 3, 0.0, 100.0)]
    assert rolling("net_csat", 30, "2025-12-01") == []
    assert rolling("net_csat", 30, "2026-01-01") == [(1, -100.0, None, None, None)]
    assert rolling("net_csat", 90, "2026-01-01") == [(5, 0.0, None, None, None)]
    assert rolling("nps", 30, "2025-04-28") == [(4, -25.0, None, None, None)]
    assert rolling("nps", 30, "2025-04-29") == [(1, -100.0, 3, 0.0, -100.0)]
    assert rolling("project_survey_score", 90, "2025-07-01") == [(4, 3.5, None, None, None)]
    assert warehouse.query(
        "select member, count_responses, value from marts.scores_rolling "
        "where metric = 'net_csat' and window_days = 90 and days_ago = 0 and dimension = 'company' order by member"
    ) == [("Acme (c1)", 1, 100.0), ("Acme (c2)", 3, MINUS_THIRD)]


def test_a_company_is_at_risk_when_somebody_is_unhappy_and_it_was_better_before(warehouse: Warehouse) -> None:
    # Nobody of Acme (c2) had rated in the 90 days before.
    assert warehouse.query(
        "select company, is_csat_at_risk, is_nps_at_risk, is_fall_clear, count_open_negative, count_ratings, "
        "count_negative, net_csat, count_ratings_before, net_csat_before, count_responses, count_responses_before "
        "from marts.companies_at_risk"
    ) == [("Acme (c2)", True, False, False, 1, 3, 2, MINUS_THIRD, None, None, None, None)]


def test_nps_is_compared_with_the_campaign_before(warehouse: Warehouse) -> None:
    assert warehouse.query(
        "select campaign, member, count_responses, nps, campaign_before, nps_before, nps_change, nps_change_low, "
        "nps_change_high from marts.nps_by_campaign order by 2, 1"
    ) == [
        ("Q1", "Acme", 1, 100.0, None, None, None, None, None),
        ("Q2", "Acme", 1, -100.0, "Q1", 100.0, -200.0, -200.0, near(10.009)),
        ("Q1", "all", 2, 0.0, None, None, None, None, None),
        ("Q2", "all", 1, -100.0, "Q1", 0.0, -100.0, near(-173.335), near(65.620)),
    ]


def test_the_calendar_has_every_day_from_the_first_answer_to_the_latest(warehouse: Warehouse) -> None:
    assert warehouse.query("select count(*), min(date_day), max(date_day) from marts.dim_days") == [
        ((JAN_1 - MAR_30).days + 1, MAR_30, JAN_1)
    ]
    assert warehouse.query("select * exclude (date_day) from marts.dim_days where date_day = '2025-12-28'") == [
        (date(2025, 12, 22), date(2025, 12, 1), OCT_1, date(2025, 1, 1), 2025, 52, 7, "Sunday", True, 4)
    ]


def test_the_time_from_closing_to_rating_is_known_where_a_ticket_was_closed_first(warehouse: Warehouse) -> None:
    assert warehouse.query("select review_id, hours_to_rating from marts.fct_csat_reviews order by 1") == [
        (1, pytest.approx(12)),
        (2, 1.0),
        (3, None),
        (4, 11.0),
        (5, None),
        (6, None),
        (7, None),
    ]


def test_an_answer_counts_once_for_each_of_its_members(warehouse: Warehouse) -> None:
    scores = warehouse.scores
    assert scores("net_csat", "all", "agent") == {"AK": (3, MINUS_THIRD), "ak": (1, -100.0), "NF": (2, 100.0)}
    assert scores("response_rate", "all", "agent") == {"AK": (4, 0.75), "ak": (1, 1.0), "NF": (2, 1.0)}
    assert scores("net_csat", "all", "board") == {"Engineering": (3, THIRD), "Sales": (1, -100.0)}
    assert scores("response_rate", "all", "board") == {"Engineering": (4, 0.75), "Sales": (1, 1.0)}
    assert scores("nps", "all", "campaign") == {"Q1": (2, 0.0), "Q2": (1, -100.0)}
    assert scores("nps", "all", "company") == {"Acme": (2, 0.0)}


def test_members_without_a_name_or_with_a_shared_one_go_by_their_id(warehouse: Warehouse) -> None:
    assert warehouse.scores("net_csat", "all", "company") == {
        "Acme (c1)": (1, 100.0),
        "Acme (c2)": (3, MINUS_THIRD),
    }
    assert warehouse.scores("net_csat", "all", "contact") == {"p1": (2, 0.0), "Zoë": (2, 50.0)}


def test_facts_hold_every_answer_with_its_days(warehouse: Warehouse) -> None:
    assert warehouse.query(
        "select review_id, rated_day, response_day, agents from marts.fct_csat_reviews order by 1"
    ) == [
        (1, OCT_25, OCT_25, ["AK", "NF"]),
        (2, OCT_26, OCT_25, ["AK", "ak"]),
        (3, OCT_26, OCT_26, []),
        (4, OCT_27, OCT_26, ["NF"]),
        (5, None, OCT_25, ["AK"]),
        (6, None, OCT_27, None),
        (7, JAN_1, DEC_31, ["AK"]),
    ]
    assert warehouse.query("select rating_id, category, rating from marts.fct_project_survey_ratings order by 1") == [
        ("r1/1", "Budget", 5),
        ("r1/2", "Time", 1),
        ("r2/1", "Time", 2),
        ("r3/1", "Time", 3),
    ]


def test_every_mart_and_column_says_in_the_file_what_it_is(warehouse: Warehouse) -> None:
    described = """
        select schema_name, table_name, column_name, comment from duckdb_columns() where not internal
        union all select schema_name, view_name, null, comment from duckdb_views() where not internal
        union all select schema_name, table_name, null, comment from duckdb_tables()
    """
    comments = {row[1:3]: row[3] for row in warehouse.query(described) if row[0] == "marts"}
    assert [name for name, comment in comments.items() if not comment] == []
    assert comments["csat_daily", "net_csat"].startswith("Net CSAT, -100 to 100: the mean of 100 for each positive, ")


@pytest.mark.parametrize("name", ["marts of an analyst.duckdb", "analytics.duckdb"])
def test_a_copy_answers_the_same_under_any_name_and_in_any_time_zone(
    warehouse: Warehouse, first_dump: dict[str, list[tuple[Any, ...]]], tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copy(warehouse.path, tmp_path / name))
    with contextlib.closing(duckdb.connect()) as connection:
        connection.execute(f"attach '{copy}' as other (read_only); set TimeZone = 'Asia/Tokyo'")
        for mart, rows in first_dump.items():
            if not mart.startswith("fct_"):  # Instants come back in the session's own zone.
                assert sorted(connection.execute(f"from other.marts.{mart}").fetchall(), key=repr) == rows


def test_a_late_change_corrects_the_day_it_leaves_and_the_day_it_enters(
    warehouse: Warehouse, first_dump: dict[str, list[tuple[Any, ...]]]
) -> None:
    tables = deepcopy(REPLICA)
    reviews = tables["reviews"]
    reviews[4] |= {"rating": -1, "rated_on": "2025-10-28T12:00:00Z"}  # re-rated, on another day
    reviews[5] |= {"rating": 1, "rated_on": "2025-10-25T12:30:00Z"}  # rated at last
    del reviews[2], reviews[6]
    tables["nps_responses"][4]["score"] = 10
    del tables["prj_responses"]["r2"]
    tables["csat_companies"]["c1"]["name"] = "Bolt"  # renamed: no day is touched by that
    days = [OCT_25, OCT_26, OCT_26, OCT_27, OCT_28, MAR_31, JUN_3]
    write_replica(warehouse.path, tables, pending_days=[day.isoformat() for day in days])
    warehouse.build("--exclude", "resource_type:unit_test")

    assert warehouse.query("from marts.csat_daily order by 1") == [
        (OCT_25, 2, 2, 0, 0, 100.0),
        (OCT_26, 1, 0, 1, 0, 0.0),
        (OCT_28, 1, 0, 0, 1, -100.0),
        (JAN_1, 1, 0, 0, 1, -100.0),
    ]
    assert warehouse.query("from marts.csat_response_daily order by 1") == [
        (OCT_25, 2, 2, 1.0),
        (OCT_26, 2, 2, 1.0),
        (DEC_31, 1, 1, 1.0),
    ]
    assert warehouse.query("from marts.nps_daily order by 1") == [
        (MAR_30, 3, 1, 1, 1, 0.0),
        (MAR_31, 1, 1, 0, 0, 100.0),
    ]
    assert warehouse.query("select * exclude (average_rating) from marts.project_survey_daily order by all") == [
        (JUN_2, "Close-out", "Budget", 1, 5),
        (JUN_2, "Close-out", "Time", 1, 1),
        (JUN_3, "Kick-off", "Time", 1, 3),
    ]
    assert warehouse.scores("net_csat", "week") == {
        date(2025, 10, 20): (3, pytest.approx(200 / 3)),
        date(2025, 10, 27): (1, -100.0),
        date(2025, 12, 29): (1, -100.0),
    }
    assert warehouse.scores("net_csat", "all", "agent") == {"AK": (3, THIRD), "NF": (2, 0.0)}
    assert warehouse.scores("net_csat", "all", "company") == {"Bolt": (1, 100.0), "Acme": (3, MINUS_THIRD)}
    assert warehouse.scores("nps", "all", "campaign") == {"Q1": (2, 0.0), "Q2": (1, 100.0)}
    assert warehouse.scores("project_survey_score", "all", "survey") == {"Close-out": (2, 3.0), "Kick-off": (1, 3.0)}


def test_what_comes_back_and_a_backfilled_range_equal_the_first_build(
    warehouse: Warehouse, first_dump: dict[str, list[tuple[Any, ...]]]
) -> None:
    for sabotage in (
        "delete from marts.csat_daily",
        "update marts.csat_response_daily set count_rated = 0, response_rate = 0",
        "insert into marts.nps_daily values (date '2025-05-05', 1, 1, 0, 0, 100)",
        "update intermediate.int_csat_by_member_daily set member_id = 'somebody else'",
    ):
        warehouse.query(sabotage)
    days = [(date(2025, 1, 1) + timedelta(days=day)).isoformat() for day in range(400)]
    write_replica(warehouse.path, REPLICA, pending_days=days)
    warehouse.build("--exclude", "resource_type:unit_test")
    assert warehouse.dump() == first_dump


def test_a_mart_that_disagrees_with_its_facts_fails_the_build(warehouse: Warehouse) -> None:
    warehouse.query("update marts.nps_daily set count_promoters = 0, count_passives = 2 where date_day = '2025-03-30'")
    warehouse.query("update intermediate.int_csat_by_member_daily set member_id = 'ak' where member_id = 'NF'")
    warehouse.query("update marts.csat_response_daily set count_rated = 2 where date_day = '2025-12-31'")
    done = warehouse.dbt("test", "--select", "test_type:data")
    assert done.returncode == 1
    for test in (
        "nps_daily_equals_its_facts",
        "csat_response_daily_counts_add_up",
        "every_review_is_in_its_day",
        "every_member_counts_its_answers_once",
    ):
        assert f"Failure in test {test}" in done.stdout


def test_a_full_refresh_moves_the_days_to_another_time_zone(warehouse: Warehouse) -> None:
    write_replica(warehouse.path, REPLICA, pending_days=[])
    warehouse.build("--full-refresh", "--exclude", "resource_type:unit_test", timezone="America/New_York")
    assert warehouse.query("from marts.csat_daily order by 1") == [
        (OCT_25, 2, 1, 0, 1, 0.0),
        (OCT_26, 2, 1, 1, 0, 50.0),
        (DEC_31, 1, 0, 0, 1, -100.0),
    ]


def test_an_empty_replica_has_no_scores(warehouse: Warehouse) -> None:
    warehouse.path.unlink()
    write_replica(warehouse.path, {}, pending_days=["2025-10-25"])
    warehouse.build("--exclude", "resource_type:unit_test")
    assert set(map(len, warehouse.dump().values())) == {0}


def test_a_machine_of_many_processors_has_no_more_threads_share_the_memory(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMILEBACK_DUCKDB_PATH", str(warehouse.path))
    # Connections of one process to one file have one DuckDB. Ten million reviews took more than there is for eight.
    with contextlib.closing(duckdb.connect(warehouse.path)) as connection:
        connection.execute("set threads = 32")
        assert run_dbt(["show", "--quiet", "--inline", "select 1"], warehouse.scratch) == ([], None)
        assert connection.execute("select current_setting('threads')").fetchone() == (2,)


def test_dbt_tells_which_list_was_not_synced_for_days(warehouse: Warehouse) -> None:
    warehouse.query(
        "insert into replica.sync_state (endpoint, synced_at) values "
        "('reviews', now() - interval 1 hour), ('nps_responses', now() - interval 25 hours), "
        "('prj_responses', now() - interval 73 hours)"
    )
    lists = [f"source:replica.{name}" for name in ("reviews", "nps_responses", "prj_responses")]
    done = warehouse.dbt("source", "freshness", "--no-use-colors", "--select", *lists)
    told = dict(reversed(found) for found in re.findall(r"(PASS|WARN|ERROR STALE) freshness of (\S+)", done.stdout))
    assert told == {
        "replica.reviews": "PASS",
        "replica.nps_responses": "WARN",
        "replica.prj_responses": "ERROR STALE",
    }
    assert done.returncode == 1
