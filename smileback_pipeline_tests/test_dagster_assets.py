"""What an operator finds beside the assets: numbers, previews, a picture, and checks that tell what is wrong."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from smileback_pipeline.assets import dbt
from smileback_pipeline.assets.dbt import DBT_DIRECTORY, MARTS, parsed_manifest, prepared_dbt_project
from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.definitions import build_definitions
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import rewrite
from smileback_pipeline.settings import Settings, load_settings
from smileback_pipeline_tests import oracle
from smileback_pipeline_tests.dagster_home import create_dagster_home

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
WHOLE_HISTORY = {
    "every_member_counts_its_answers_once",
    "every_member_has_a_name",
    "unique_dim_agents_agent",
    "unique_dim_boards_member",
    "unique_dim_companies_member",
    "unique_dim_contacts_member",
    "unique_fct_csat_reviews_review_id",
    "unique_fct_rating_changes_rating_change_id",
}


@dataclass
class Run:
    """A run that is over, as its events tell it."""

    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance

    @property
    def metadata(self) -> dict[tuple[str, str | None], dict[str, Any]]:
        """By asset and partition."""
        told = {}
        for event in self.instance.all_logs(self.result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            made = event.asset_materialization
            told[made.asset_key.to_user_string(), made.partition] = {
                name: value if isinstance(value, dg.TableMetadataValue) else value.value
                for name, value in made.metadata.items()
            }
        return told

    @property
    def checks(self) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
        """By asset and name."""
        evaluations = [event.asset_check_evaluation_data for event in self.result.all_events if _is_check(event)]
        return {(found.asset_key.to_user_string(), found.check_name): found for found in evaluations}

    @property
    def failed_checks(self) -> set[str]:
        return {name for (_, name), check in self.checks.items() if not check.passed}


def _manifest() -> dict[str, Any]:
    return json.loads(prepared_dbt_project().manifest_path.read_text())


def _is_check(event: dg.DagsterEvent) -> bool:
    return event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION


@dataclass
class Pipeline:
    sandbox: Sandbox
    settings: Settings
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    home: Path

    def sync(self, **config: Any) -> Run:
        return Run(
            self.definitions.resolve_job_def(SYNC_JOB).execute_in_process(
                instance=self.instance,
                partition_key=datetime.now(UTC).date().isoformat(),
                run_config={"ops": {"replicate": {"config": config}}},
                raise_on_error=False,
            ),
            self.instance,
        )

    def materialize(self, *assets: str, day: str | None = None, until: str | None = None) -> Run:
        """What the button in the UI does, for a day or from a day until another."""
        days = {"dagster/asset_partition_range_start": day, "dagster/asset_partition_range_end": until}
        return Run(
            self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets],
                partition_key=None if until else day,
                tags=days if until else None,
                raise_on_error=False,
            ),
            self.instance,
        )

    def check(self, asset: str, name: str) -> Run:
        """What "Execute" beside a check in the UI does."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        key = dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), name)
        subset = job.get_subset(asset_selection=set(), asset_check_selection={key})
        return Run(subset.execute_in_process(instance=self.instance, raise_on_error=False), self.instance)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(duckdb.connect(self.settings.duckdb_path)) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    directory = tmp_path_factory.mktemp("assets")
    home = create_dagster_home(directory)
    with running_sandbox(World(now=NOW, scale=0.1)) as sandbox, pytest.MonkeyPatch.context() as patch:
        variables = {
            **sandbox.environment(),
            "SMILEBACK_DUCKDB_PATH": directory / "warehouse.duckdb",
            "SMILEBACK_ANALYTICS_PATH": directory / "analytics.duckdb",
            "SMILEBACK_TOKEN_PATH": directory / "tokens.json",
            "SMILEBACK_START_DATE": "2024-01-01",
            "SMILEBACK_TIMEZONE": "UTC",
            "SMILEBACK_REQUESTS_PER_MINUTE": "0",
            "XDG_STATE_HOME": directory,
        }
        for name, value in variables.items():
            patch.setenv(name, str(value))
        settings = load_settings()
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield Pipeline(sandbox, settings, build_definitions(settings), instance, home)


@pytest.fixture(scope="module")
def first(pipeline: Pipeline) -> Run:
    run = pipeline.sync()
    assert run.result.success
    return run


# The tests of this module are one story and run in its order.


def test_a_walk_tells_what_it_did_and_what_it_cost(pipeline: Pipeline, first: Run) -> None:
    reviews = first.metadata["replica/reviews", None]
    live = len(oracle.records_of(pipeline.sandbox.world)["reviews"])
    assert reviews["dagster/row_count"] == reviews["rows_new"] == live
    assert reviews["rows_changed"] == reviews["rows_deleted"] == reviews["records_set_aside"] == 0
    assert reviews["requests"] == len(pipeline.sandbox.requests.to("reviews"))
    assert reviews["seconds_waited_for_quota"] == 0
    live = pipeline.sandbox.world.live("reviews")
    stamps = [review[name] for review in live for name in ("rated_on", "last_modified")]
    stamps += [review["ticket"]["closed_on"] for review in live if review["ticket"]]
    assert reviews["days_touched"] == len({stamp[:10] for stamp in stamps if stamp})
    newest = max(datetime.fromisoformat(review["last_modified"]) for review in live)
    assert reviews["watermark"] == (newest - timedelta(seconds=300)).timestamp()
    assert len(reviews["newest_rows"].records) == 5


def test_the_scores_stand_beside_their_mart_with_what_they_are_made_of(pipeline: Pipeline, first: Run) -> None:
    told = first.metadata["marts/scores", None]
    expected = oracle.scores(oracle.records_of(pipeline.sandbox.world), "UTC")
    for metric in ("net_csat", "response_rate", "nps", "project_survey_score"):
        score = expected[oracle.ScoreKey(metric, "all", None, "all", "all")]
        assert told[metric] == pytest.approx(score.value)
        assert told[f"{metric}_of"] == score.count_responses
    assert told["days_rebuilt"] > 500
    picture = base64.b64decode(re.fullmatch(r"!\[.*\]\(data:image/png;base64,(.*)\)", told["trend"])[1])
    assert picture.startswith(b"\x89PNG") and 5_000 < len(told["trend"]) < 50_000


def test_each_day_of_a_daily_mart_has_its_numbers(pipeline: Pipeline, first: Run) -> None:
    days = oracle.csat_daily(oracle.records_of(pipeline.sandbox.world), "UTC")
    for day, count, *_, net_csat in (days[0], days[-1]):
        told = first.metadata["marts/csat_daily", day.isoformat()]
        assert told == {"count_ratings": count, "net_csat": pytest.approx(net_csat)}


def test_a_first_sync_runs_every_check_there_is(pipeline: Pipeline, first: Run) -> None:
    keys = pipeline.definitions.resolve_asset_graph().asset_check_keys
    assert set(first.checks) == {(key.asset_key.to_user_string(), key.name) for key in keys}
    assert first.failed_checks == set()
    nodes = _manifest()["nodes"].values()
    tests = {node["name"] for node in nodes if node["resource_type"] == "test"}
    assert tests <= {name for _, name in first.checks}
    assert {node["name"] for node in nodes if "whole_history" in node["tags"]} == WHOLE_HISTORY
    reviews = first.checks["replica/reviews", "count_equals_smileback"].metadata
    assert reviews["deleted"].value > 0
    assert reviews["listed"].value == reviews["rows"].value + reviews["deleted"].value


def test_the_dbt_project_says_that_analysts_read_every_mart(pipeline: Pipeline) -> None:
    manifest = _manifest()
    marts = {name for name, node in manifest["nodes"].items() if name.startswith("model.") and node["fqn"][1] == MARTS}
    assert set(manifest["exposures"]["exposure.smileback.published_file"]["depends_on"]["nodes"]) == marts


def test_every_asset_and_column_is_described_and_a_column_tells_where_it_comes_from(pipeline: Pipeline) -> None:
    specs = {spec.key.to_user_string(): spec for spec in pipeline.definitions.resolve_all_asset_specs()}
    assert {spec.group_name for spec in specs.values()} == {"replica", "staging", "intermediate", "marts", "published"}
    for name, spec in specs.items():
        assert spec.description and spec.owners and spec.kinds, name
        if spec.group_name != "published":
            columns = spec.metadata["dagster/column_schema"].columns
            assert columns and [column.name for column in columns if not column.description] == [], name
    counted, staged = "intermediate/int_csat_by_member_daily", "staging/stg_smileback__reviews"
    for asset, column, source in (
        ("marts/csat_daily", "count_positive", (counted, "count_positive")),
        (counted, "count_positive", (staged, "rating")),
        (staged, "board_id", ("replica/reviews", "ticket_segment_id")),
    ):
        lineage = specs[asset].metadata["dagster/column_lineage"].deps_by_column
        assert [(dep.asset_key.to_user_string(), dep.column_name) for dep in lineage[column]] == [source]


def test_a_launchpad_with_an_unknown_endpoint_says_which_there_are(pipeline: Pipeline) -> None:
    run = pipeline.sync(endpoints=["revews"])
    [failure] = [event.step_failure_data for event in run.result.all_events if event.is_step_failure]
    assert failure.user_failure_data.description.startswith("There is no endpoint revews; there are reviews, nps_resp")


def test_what_cannot_be_right_or_is_too_old_is_warned_about_without_personal_data(pipeline: Pipeline) -> None:
    world = pipeline.sandbox.world
    later = NOW + timedelta(minutes=5)
    review = {**world.live("reviews")[0], "last_modified": "2026-03-15T12:05:00Z"}
    world.put("reviews", {**review, "id": 900001, "rating": 7}, filed_at=later)
    world.put("reviews", {**review, "id": 900002, "rating": 1, "rated_on": "2019-05-04T12:00:00Z"}, filed_at=later)
    run = pipeline.sync()
    assert run.result.success
    assert run.failed_checks == {"nothing_set_aside", "days_have_partitions"}
    set_aside = run.checks["replica/reviews", "nothing_set_aside"]
    assert set_aside.severity == dg.AssetCheckSeverity.WARN
    assert set_aside.metadata["records"].value == 1
    (reason,) = set_aside.metadata["reasons"].records
    assert reason.data["reason"] == "rating is not a whole number from -1 to 1"
    assert reason.data["example"] == "900001"
    early = run.checks["replica/reviews", "days_have_partitions"]
    assert early.metadata["earliest"].value == "2019-05-04"
    assert "SMILEBACK_START_DATE=2019-05-04" in early.description
    assert run.metadata["replica/reviews", None]["records_set_aside"] == 1
    # An increment leaves out what reads all of history, and what only a whole list can tell.
    assert {name for _, name in run.checks} & WHOLE_HISTORY == set()
    assert ("replica/reviews", "count_equals_smileback") not in run.checks
    assert ("replica/csat_boards", "count_equals_smileback") in run.checks


def test_a_list_that_shows_a_record_twice_is_warned_about(pipeline: Pipeline) -> None:
    def twice(page: dict[str, Any]) -> dict[str, Any]:
        return page | {"count": page["count"] + 1, "results": [*page["results"], page["results"][0]]}

    pipeline.sandbox.faults.add("csat-boards", rewrite(twice), times=None)
    run = pipeline.sync(endpoints=["csat_boards"])
    pipeline.sandbox.faults.clear()
    check = run.checks["replica/csat_boards", "count_equals_smileback"]
    assert not check.passed
    assert check.metadata["listed"].value == check.metadata["rows"].value + 1


def test_a_wrong_mart_is_not_published_until_it_is_right_again(pipeline: Pipeline) -> None:
    day = oracle.nps_daily(oracle.records_of(pipeline.sandbox.world), "UTC")[0][0]
    published = pipeline.settings.analytics_path.stat().st_ino
    pipeline.query(f"update marts.nps_daily set count_promoters = 0, nps = 0 where date_day = '{day}'")
    review = pipeline.sandbox.world.live("reviews")[0]
    pipeline.sandbox.world.edit_review(review["id"], at=NOW + timedelta(minutes=10), rating=0)

    run = pipeline.sync()
    assert not run.result.success
    assert {"nps_daily_equals_its_facts", "nps_daily_counts_add_up"} <= run.failed_checks
    assert pipeline.settings.analytics_path.stat().st_ino == published
    # Nor by somebody who asks for the file alone.
    run = pipeline.materialize("published/analytics")
    assert not run.result.success
    assert run.failed_checks == {"nothing_pending"}
    assert pipeline.settings.analytics_path.stat().st_ino == published

    run = pipeline.materialize("marts/nps_daily", day=day.isoformat())
    assert run.result.success
    assert run.metadata["marts/nps_daily", day.isoformat()]["count_responses"] > 0
    run = pipeline.sync()
    assert run.result.success
    assert run.failed_checks == {"nothing_set_aside", "days_have_partitions"}
    assert pipeline.settings.analytics_path.stat().st_ino != published


def test_whatever_is_materialized_leaves_no_mart_behind_and_all_of_it_can_be_published(pipeline: Pipeline) -> None:
    """Of all assets and days Dagster makes runs: what has no partitions, what is daily, and what comes after that."""
    after_daily = {"intermediate/int_answers_daily", "marts/companies_at_risk", "marts/dim_days"}
    after_daily |= {"marts/scores", "marts/scores_rolling"}
    assets = {spec.key.to_user_string(): spec for spec in pipeline.definitions.resolve_all_asset_specs()}
    marts = {name for name in assets if name.startswith(("staging/", "intermediate/", "marts/"))}
    daily = {name for name in marts if assets[name].partitions_def}
    review = pipeline.sandbox.world.live("reviews")[1]
    pipeline.sandbox.world.edit_review(review["id"], at=NOW + timedelta(minutes=20), rating=-1)
    published = pipeline.settings.analytics_path.stat().st_ino

    assert pipeline.materialize("replica/reviews").result.success
    assert pipeline.materialize("published/analytics").failed_checks == {"nothing_pending"}
    run = pipeline.materialize(*marts - daily - after_daily)
    assert run.result.success
    records = oracle.records_of(pipeline.sandbox.world)
    assert oracle.is_same(pipeline.query("from marts.csat_daily order by date_day"), oracle.csat_daily(records, "UTC"))
    assert any(name == "marts/csat_daily" for name, day in run.metadata)
    assert pipeline.materialize(*daily, day="2026-01-01", until="2026-03-15").result.success
    assert pipeline.materialize(*after_daily).result.success
    assert pipeline.materialize("published/analytics").result.success
    assert pipeline.settings.analytics_path.stat().st_ino != published

    # What is asked for is built, changed or not; and a day that was asked for is not behind.
    run = pipeline.materialize("marts/nps_daily", "marts/dim_boards", day="2026-03-14")
    assert {("marts/nps_daily", "2026-03-14"), ("marts/dim_boards", None)} <= set(run.metadata)
    assert pipeline.query("from replica.pending_days") == []


def test_a_scorecard_that_was_not_written_after_its_file_is_written_by_the_next_sync(
    pipeline: Pipeline, first: Run
) -> None:
    """As after a run that was killed between the two, or when somebody asks for the file alone."""
    scorecard = pipeline.settings.scorecard_path
    scorecard.write_text("what stood there before")
    assert pipeline.materialize("published/analytics").result.success
    assert pipeline.sync().result.success
    assert "Net CSAT" in scorecard.read_text()


def test_a_check_of_all_history_runs_on_demand_and_what_it_finds_stops_the_next_publication(pipeline: Pipeline) -> None:
    asset = "intermediate/int_csat_by_member_daily"
    assert pipeline.check(asset, "every_member_counts_its_answers_once").failed_checks == set()
    pipeline.query("update intermediate.int_csat_by_member_daily set count_positive = 0, count_ratings = 0")
    run = pipeline.check(asset, "every_member_counts_its_answers_once")
    assert run.failed_checks == {"every_member_counts_its_answers_once"}
    run = pipeline.sync()
    assert not run.result.success
    assert "every_member_counts_its_answers_once" in run.failed_checks


def test_no_event_holds_what_customers_wrote_or_how_to_reach_them(pipeline: Pipeline) -> None:
    stored = b"".join(path.read_bytes() for path in pipeline.home.rglob("*") if path.is_file())
    reviews = pipeline.sandbox.world.live("reviews")
    secrets = {review["contact"]["email"] for review in reviews if review["contact"]}
    secrets |= {review["comment"] for review in reviews if review["comment"]}
    assert len(secrets) > 100
    assert [text for text in secrets if text and len(text) > 10 and text.encode() in stored] == []


def test_a_run_builds_the_models_that_are_there_and_none_that_were_tried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(DBT_DIRECTORY, project, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(dbt, "DBT_DIRECTORY", project)
    model = project / "models" / "marts" / "dim_days.sql"
    there = model.read_text()
    tried_out = f"{there}-- tried out\n"

    def built() -> tuple[str, str]:
        node = parsed_manifest(prepared_dbt_project(), "feedback").nodes["model.smileback.dim_days"]
        return node.database, node.raw_code

    assert built() == ("feedback", there.strip())
    model.write_text(tried_out)
    by_hand = [sys.executable, "-m", "dbt.cli.main", "parse", "--quiet", "--target", "memory"]
    subprocess.run(by_hand, cwd=project, check=True, timeout=120)
    model.write_text(there)
    assert built() == ("feedback", there.strip())
    model.write_text(tried_out)
    assert built() == ("feedback", tried_out.strip())
