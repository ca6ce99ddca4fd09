"""What becomes of old runs: they go with all their files, and no day comes to look as if it never was built."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from smileback_pipeline.automation import retention
from smileback_pipeline.automation.retention import forget_runs
from smileback_pipeline.runs import open_instance
from smileback_pipeline_tests.dagster_home import create_dagster_home

DAYS = dg.DailyPartitionsDefinition("2026-01-01")
DAILY, WHOLE = dg.AssetKey("daily"), dg.AssetKey("whole")
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(create_dagster_home(tmp_path))) as instance:
        yield instance


def build(instance: dg.DagsterInstance, *, whole: bool, days: str) -> str:
    """A run that builds an asset as a whole, or not, and days of another one, and checks that."""

    @dg.multi_asset(
        specs=[dg.AssetSpec(DAILY, partitions_def=DAYS, skippable=True), dg.AssetSpec(WHOLE, skippable=True)],
        check_specs=[dg.AssetCheckSpec("adds_up", asset=DAILY)],
    )
    def build_both(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        print("what goes to the logs")
        for day in days.split():
            context.log_event(dg.AssetMaterialization(DAILY, partition=day))
        if whole:
            yield dg.MaterializeResult(WHOLE)
        yield dg.AssetCheckResult(asset_key=DAILY, check_name="adds_up", passed=True)

    return dg.materialize([build_both], instance=instance, partition_key="2026-01-31").run_id


def files_of(run_id: str, directory: Path) -> list[Path]:
    return list(directory.rglob(f"*{run_id}*"))


def test_old_runs_go_with_all_their_files_but_what_was_built_last_stays_known(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_EVENTS_AT_ONCE", 1)
    first = build(instance, whole=False, days="2026-01-01 2026-01-02")
    replaced = build(instance, whole=True, days="2026-01-01")
    quiet = build(instance, whole=False, days="")
    last_of_whole = build(instance, whole=True, days="")
    last_of_a_day = build(instance, whole=False, days="2026-01-01")
    failed = create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE).run_id
    unfinished = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED).run_id
    assert files_of(quiet, tmp_path)
    # As the command line does, which captures nothing itself.
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with open_instance() as other:
        assert forget_runs(other, created_before=LATER) == 3
    assert {run.run_id for run in instance.get_runs()} == {first, last_of_whole, last_of_a_day, unfinished}
    for gone in (replaced, quiet, failed):
        assert files_of(gone, tmp_path) == []
        assert instance.all_logs(gone) == []
    assert instance.get_materialized_partitions(DAILY) == {"2026-01-01", "2026-01-02"}
    newest = instance.get_latest_materialization_event(WHOLE)
    assert newest and newest.run_id == last_of_whole
    checks = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(DAILY, "adds_up"), limit=9)
    assert [check.run_id for check in checks] == [last_of_a_day, last_of_whole, first]


def test_what_is_younger_stays(instance: dg.DagsterInstance) -> None:
    old, young = (
        instance.run_storage.add_historical_run(
            dg.DagsterRun(job_name="a", run_id=run_id, status=dg.DagsterRunStatus.SUCCESS),
            datetime(2026, 1, day, tzinfo=UTC),
        ).run_id
        for run_id, day in (("old", 1), ("young", 3))
    )
    assert forget_runs(instance, created_before=datetime(2026, 1, 2, tzinfo=UTC)) == 1
    assert [run.run_id for run in instance.get_runs()] == [young]
    assert not instance.get_run_by_id(old)

