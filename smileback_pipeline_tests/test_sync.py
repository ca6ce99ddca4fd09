"""The whole job as a user runs it: the command line as a process, a SmileBack over HTTP, the published file."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from rich.console import Console

from smileback_pipeline.console import ConsoleReporter
from smileback_pipeline.sandbox import ENDPOINTS, Sandbox, World, running_sandbox
from smileback_pipeline_tests import oracle
from smileback_pipeline_tests.dagster_home import create_dagster_home

TIMEZONE = "America/New_York"
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
COMMAND = str(Path(sys.executable).with_name("smileback-pipeline"))


@dataclass
class Account:
    """An MSP with a machine: its SmileBack, and the files of its pipeline."""

    sandbox: Sandbox
    directory: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def warehouse(self) -> Path:
        # Whatever people call it; dbt calls the database after it.
        return self.directory / "feedback of customers.v2.duckdb"

    @property
    def published(self) -> Path:
        return self.directory / "analytics.duckdb"

    def environment(self, **variables: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SMILEBACK_")}
        return {
            **inherited,
            **self.sandbox.environment(),
            "SMILEBACK_DUCKDB_PATH": str(self.warehouse),
            "SMILEBACK_ANALYTICS_PATH": str(self.published),
            "SMILEBACK_TOKEN_PATH": str(self.directory / "tokens.json"),
            "SMILEBACK_TIMEZONE": TIMEZONE,
            "SMILEBACK_START_DATE": "2024-01-01",
            "SMILEBACK_REQUESTS_PER_MINUTE": "0",
            "DAGSTER_HOME": str(self.directory / "dagster"),
            "XDG_STATE_HOME": str(self.directory),
            **self.variables,
            **variables,
        }

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.environment(**variables),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def sync(self, *arguments: str, **variables: str) -> str:
        """What a successful sync prints."""
        result = self.run("sync", *arguments, **variables)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(duckdb.connect(self.published, read_only=True)) as connection:
            return connection.execute(sql).fetchall()

    def assert_published_equals_server(self, timezone: str = TIMEZONE) -> None:
        """Every live record once, and every mart and score equal to a recomputation that shares nothing with them."""
        records = oracle.records_of(self.sandbox.world)
        for endpoint in ENDPOINTS:
            table = endpoint.replace("-", "_")
            ids = [str(row[0]) for row in self.query(f"select id from replica.{table}")]
            expected = [str((record.get("response") or record)["id"]) for record in records[endpoint]]
            assert sorted(ids) == sorted(expected), endpoint
        daily = {
            "csat_daily": oracle.csat_daily,
            "csat_response_daily": oracle.csat_response_daily,
            "nps_daily": oracle.nps_daily,
        }
        for table, expected_rows in daily.items():
            rows = self.query(f"from marts.{table} order by date_day")
            assert oracle.is_same(rows, expected_rows(records, timezone)), table
        rows = self.query("from marts.project_survey_daily order by date_day, survey_name, category")
        assert oracle.is_same(rows, oracle.project_survey_daily(records, timezone))
        scores = {
            oracle.ScoreKey(*row[:5]): oracle.Score(*row[5:])
            for row in self.query(
                "select metric, grain, period_start, dimension, member, count_responses, value from marts.scores"
            )
        }
        assert oracle.is_same(scores, oracle.scores(records, timezone))


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    directory = tmp_path_factory.mktemp("msp")
    create_dagster_home(directory)
    world = World(now=NOW, scale=0.1)
    with running_sandbox(world) as sandbox:
        yield Account(sandbox, directory)


def days_of(records: dict[str, list[dict[str, Any]]]) -> set[date]:
    """Every day that a record counts on, in whatever mart."""
    stamps = [review[name] for review in records["reviews"] for name in ("rated_on", "last_modified")]
    stamps += [review["ticket"]["closed_on"] for review in records["reviews"] if review["ticket"]]
    stamps += [response["created_at"] for response in records["nps-responses"]]
    stamps += [project["response"]["date"] for project in records["prj-responses"]]
    return {datetime.fromisoformat(stamp).astimezone(ZoneInfo(TIMEZONE)).date() for stamp in stamps if stamp}


# The tests of this module are one story and run in its order.


def test_the_first_sync_publishes_what_smileback_says(account: Account) -> None:
    output = account.sync()
    account.assert_published_equals_server()
    assert "The file to open" in output
    assert str(account.published) in output
    records = oracle.records_of(account.sandbox.world)
    assert f"{len(records['reviews']):,} rows" in output
    net_csat = oracle.scores(records, TIMEZONE)[oracle.ScoreKey("net_csat", "all", None, "all", "all")]
    assert f"{net_csat.value:+.1f}" in output
    assert f"All marts were built. {len(days_of(records)):,} days rebuilt." in output


def test_a_sync_with_nothing_new_asks_once_an_endpoint_and_publishes_nothing(account: Account) -> None:
    before = account.published.stat()
    asked = len(account.sandbox.requests)
    output = account.sync()
    requests = [request for request in account.sandbox.requests[asked:] if request.endpoint in ENDPOINTS]
    assert sorted(request.endpoint for request in requests) == sorted(ENDPOINTS)
    assert (account.published.stat().st_ino, account.published.stat().st_mtime) == (before.st_ino, before.st_mtime)
    assert "No day had to be rebuilt" in output
    account.assert_published_equals_server()


def test_late_changes_correct_the_days_that_they_leave_and_enter(account: Account) -> None:
    world = account.sandbox.world
    rated = [review for review in world.live("reviews") if review["rating"] is not None]
    later = NOW + timedelta(minutes=5)
    with world.lock:
        world.edit_review(rated[0]["id"], at=later, rating=-1 if int(rated[0]["rating"]) > 0 else 1)
        world.edit_review(rated[50]["id"], at=later, rated_on="2025-07-04T03:30:00Z")
        world.edit_review(rated[100]["id"], at=later, status="deleted")
        world.edit_review(rated[150]["id"], at=later, company={"id": "new", "name": "Newcomer Ltd"})
        world.edit_review(rated[200]["id"], at=later, ticket=None, rating=None, rated_on=None)
    output = account.sync()
    account.assert_published_equals_server()
    assert "days rebuilt" in output

    world.edit_review(rated[100]["id"], at=later + timedelta(minutes=1), status="open")
    account.sync()
    account.assert_published_equals_server()


def test_records_that_cannot_be_right_are_set_aside_and_come_back_when_they_are(account: Account) -> None:
    world = account.sandbox.world
    good = world.live("reviews")[0]
    later = NOW + timedelta(hours=1)
    stamp = later.isoformat().replace("+00:00", "Z")
    bad = [
        {**good, "id": 900001, "rating": 7, "last_modified": stamp},
        {**good, "id": 900002, "last_modified": stamp, "rated_on": "yesterday"},
        {**good, "id": None, "last_modified": stamp},
    ]
    for record in bad:
        world.put("reviews", record, filed_at=later)
    world.put("nps-responses", {**world.live("nps-responses")[-1], "id": 900003, "score": 11})
    world.put(
        "reviews", {**good, "id": 900004, "last_modified": stamp, "comment": "'); drop table x; -- 😀\n\"", "new": [1]}
    )
    output = account.sync()
    account.assert_published_equals_server()
    assert "4 records cannot be right" in output
    with contextlib.closing(duckdb.connect(account.warehouse, read_only=True)) as connection:
        reasons = connection.execute(
            "select endpoint, key, reason from replica.rejected_records where key like '9000%' order by key"
        ).fetchall()
    assert reasons == [
        ("reviews", "900001", "rating is not a whole number from -1 to 1"),
        ("reviews", "900002", "rated_on is not a readable time"),
        ("nps_responses", "900003", "score is not a whole number from 0 to 10"),
    ]
    [(comment, extra)] = account.query("select comment, extra from replica.reviews where id = 900004")
    assert comment == "'); drop table x; -- 😀\n\""
    assert extra == '{"new":[1]}'

    world.put("reviews", {**bad[0], "rating": 1, "last_modified": "2026-03-15T14:00:00Z"})
    output = account.sync()
    account.assert_published_equals_server()
    assert "3 records cannot be right" in output


def test_a_full_sync_finds_what_vanished_without_a_trace(account: Account) -> None:
    world = account.sandbox.world
    vanished = [review["id"] for review in world.live("reviews")[10:13]]
    for review_id in vanished:
        world.remove("reviews", review_id)
    account.sync()
    listed = ", ".join(map(str, vanished))
    assert account.query(f"select count(*) from replica.reviews where id in ({listed})") == [(3,)]
    account.sync("--full")
    account.assert_published_equals_server()


def test_another_time_zone_cuts_all_days_anew(account: Account) -> None:
    output = account.sync(SMILEBACK_TIMEZONE="Australia/Sydney")
    # Although the replica left no day pending.
    assert "All marts were built." in output
    account.assert_published_equals_server("Australia/Sydney")


def test_a_reader_who_has_the_file_open_keeps_the_version_they_opened(account: Account) -> None:
    world = account.sandbox.world
    with contextlib.closing(duckdb.connect(account.published, read_only=True)) as reader:
        before = reader.execute("select count(*), max(last_modified) from replica.reviews").fetchall()
        world.edit_review(world.live("reviews")[5]["id"], at=NOW + timedelta(hours=3), comment="changed meanwhile")
        account.sync(SMILEBACK_TIMEZONE="Australia/Sydney")
        assert reader.execute("select count(*), max(last_modified) from replica.reviews").fetchall() == before
    assert account.query("select count(*) from replica.reviews where comment = 'changed meanwhile'") == [(1,)]


def test_without_credentials_sync_says_what_to_set_and_makes_nothing_up(account: Account) -> None:
    unset = {name: "" for name in account.sandbox.environment() if name.startswith("SMILEBACK_")}
    result = account.run("sync", **unset, SMILEBACK_TOKEN_PATH=str(account.directory / "none.json"))
    assert result.returncode == 2
    for name in ("CLIENT_ID", "CLIENT_SECRET", "USERNAME", "PASSWORD"):
        assert f"SMILEBACK_{name}" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SMILEBACK_TIMEZONE", "Berlin", "IANA time zone"),
        ("SMILEBACK_BASE_URL", "http://app.smileback.io/api", "https://"),
        ("SMILEBACK_ANALYTICS_PATH", "marts.duckdb", "schema"),
        ("SMILEBACK_DUCKDB_PATH", ".Marts.v2.duckdb", "schema"),
        ("SMILEBACK_START_DATE", "soon", "date"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(account: Account, variable: str, value: str, words: str) -> None:
    result = account.run("sync", **{variable: value})
    assert result.returncode == 2
    assert result.stderr.startswith(f"Error: {variable} ")
    assert words in result.stderr
    # Of no other variable, such as one whose default comes from a wrong one.
    assert result.stderr.count("SMILEBACK_") == 1
    assert "Traceback" not in result.stderr


def test_a_warehouse_that_cannot_be_there_is_named_with_the_reason(account: Account) -> None:
    (account.directory / "occupied").touch()
    path = account.directory / "occupied" / "warehouse.duckdb"
    result = account.run("sync", SMILEBACK_DUCKDB_PATH=str(path))
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: {path} cannot be used (File exists): mend SMILEBACK_DUCKDB_PATH, or who may write there.\n"
    )


def test_wrong_credentials_fail_with_the_servers_words_and_not_with_the_secret(account: Account) -> None:
    result = account.run(
        "sync", SMILEBACK_PASSWORD="not-the-password", SMILEBACK_TOKEN_PATH=str(account.directory / "fresh.json")
    )
    assert result.returncode == 1
    assert "Invalid credentials given" in result.stderr
    assert "not-the-password" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_marts_that_are_checked_alone_are_not_said_to_be_rebuilt() -> None:
    """As by a full sync that finds nothing."""
    said = io.StringIO()
    reporter = ConsoleReporter(Console(file=said))
    reporter.rebuilding([], everything=False)
    assert said.getvalue() == "  … checking the marts\n"
    assert reporter.rebuilt == "No day had to be rebuilt."
