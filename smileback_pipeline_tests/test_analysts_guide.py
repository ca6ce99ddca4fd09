"""What analysts and their tools build on: the guide's queries and answers, and the names that stay as they are."""

import contextlib
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smileback_pipeline_tests.analysts_guide import GUIDE, answered, publish_sample, questions

REWRITE = "python -m smileback_pipeline_tests.analysts_guide"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_sample(tmp_path_factory.mktemp("sample"))


def test_the_guide_prints_the_answers_that_its_queries_give(published: Path) -> None:
    guide = GUIDE.read_text()
    assert answered(guide, published).splitlines() == guide.splitlines(), f"write them anew: {REWRITE}"


def test_every_question_is_one_short_query_without_a_join_and_has_an_answer() -> None:
    guide = GUIDE.read_text()
    assert len(questions(guide)) >= 12
    for sql in questions(guide):
        assert sql.count(";") == 1
        assert len(sql.splitlines()) <= 8, sql
        assert not re.search(r"\b(join|with)\b", sql), sql
        answer = guide.partition(sql)[2].removeprefix("```\n\n").partition("\n\n")[0]
        assert len(answer.splitlines()) > 2, f"{sql}\nhas no answer: {REWRITE}"


COUNTED = {
    "csat_daily": ["date_day", "count_ratings", "count_positive", "count_neutral", "count_negative", "net_csat"],
    "csat_response_daily": ["date_day", "count_reviews", "count_rated", "response_rate"],
    "nps_daily": ["date_day", "count_responses", "count_promoters", "count_passives", "count_detractors", "nps"],
    "project_survey_daily": [
        *("date_day", "survey_name", "category"),
        *("count_ratings", "sum_ratings", "average_rating"),
    ],
}
MEMBERS = ["date_day", "dimension", "member"]
KEYS = {
    "fct_csat_reviews": "review_id",
    "fct_nps_responses": "response_id",
    "fct_project_survey_ratings": "rating_id",
    "dim_agents": "agent",
    "dim_boards": "board_id",
    "dim_companies": "company_id",
    "dim_contacts": "contact_id",
    "dim_campaigns": "campaign",
    "dim_surveys": "survey",
}
REPLICA = {
    "reviews": "ticket_id ticket_agents ticket_closed_on ticket_segment_name contact_email company_name",
    "nps_responses": "score created_at campaign_name contact_company",
    "prj_responses": "ratings survey_name date contact_email",
    **dict.fromkeys(("csat_agents", "csat_boards", "csat_companies", "csat_contacts"), "name"),
    **dict.fromkeys(("nps_campaigns", "prj_surveys"), "name"),
}
GRAINS = {"day", "week", "month", "quarter", "year", "all"}
DIMENSIONS = {
    "net_csat": {"all", "agent", "board", "company", "contact"},
    "response_rate": {"all", "agent", "board", "company", "contact"},
    "nps": {"all", "campaign", "company"},
    "project_survey_score": {"all", "survey", "category", "company"},
}


def asked(published: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(duckdb.connect(published, read_only=True)) as connection:
        return connection.execute(sql).fetchall()


def test_tables_and_columns_are_called_what_dashboards_call_them(published: Path) -> None:
    columns: dict[str, dict[str, str]] = {}
    for schema, table, column, type in asked(
        published,
        "select table_schema, table_name, column_name, data_type from information_schema.columns order by all",
    ):
        columns.setdefault(f"{schema}.{table}", {})[column] = type
    described = {table: [row[0] for row in asked(published, f"describe marts.{table}")] for table in COUNTED}
    assert described == COUNTED
    for by_member, whole in {
        "csat_by_member_daily": "csat_daily",
        "csat_response_by_member_daily": "csat_response_daily",
        "nps_by_member_daily": "nps_daily",
    }.items():
        assert {*MEMBERS, *COUNTED[whole]} <= columns[f"marts.{by_member}"].keys()
    for table, key in KEYS.items():
        assert key in columns[f"marts.{table}"]
    scores = [row[0] for row in asked(published, "describe marts.scores")]
    assert scores[:7] == ["metric", "grain", "period_start", "dimension", "member", "count_responses", "value"]
    for table, some in REPLICA.items():
        assert {"id", *some.split(), "extra", "synced_at"} <= columns[f"replica.{table}"].keys()
    assert {table for table in columns if table.startswith("replica.")} == {
        *(f"replica.{table}" for table in REPLICA),
        "replica.review_versions",
    }
    assert columns["replica.reviews"]["rated_on"] == "TIMESTAMP WITH TIME ZONE"
    assert columns["replica.reviews"]["ticket_agents"] == "VARCHAR[]"
    assert columns["replica.prj_responses"]["ratings"].endswith("[]")


def test_there_is_a_score_of_every_metric_by_every_grain_and_dimension_it_can_have(published: Path) -> None:
    present = asked(published, "select distinct metric, dimension, grain from marts.scores")
    assert set(present) == {
        (metric, dimension, grain) for metric, names in DIMENSIONS.items() for dimension in names for grain in GRAINS
    }
    assert asked(published, "select count(*) from marts.scores where (grain = 'all') != (period_start is null)") == [
        (0,)
    ]
    assert asked(published, "select count(*) from marts.scores where (dimension = 'all') != (member = 'all')") == [(0,)]


def test_a_score_tells_how_many_answers_it_divides_by(published: Path) -> None:
    told = "select metric, count_responses from marts.scores where grain = 'all' and dimension = 'all'"
    [facts] = asked(
        published,
        """
        select
            (select count(rating) from replica.reviews), (select count(*) from replica.reviews),
            (select count(*) from replica.nps_responses), (select sum(len(ratings)) from replica.prj_responses)
        """,
    )
    assert dict(asked(published, told)) == dict(
        zip(("net_csat", "response_rate", "nps", "project_survey_score"), facts, strict=True)
    )
