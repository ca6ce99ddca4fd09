"""The event log of the shipped instance: what it stores in batches reads like what Dagster stores one by one."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from smileback_pipeline.automation.event_log import QuickSqliteEventLogStorage, log_materializations
from smileback_pipeline_tests.dagster_home import create_dagster_home

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2026-09-27")  # 1000 days
KEYS = [dg.AssetKey(["marts", name]) for name in ("a", "b", "c", "d")]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(create_dagster_home(tmp_path))) as instance:
        yield instance


def materialize(instance: dg.DagsterInstance, partitions: list[str]) -> dg.ExecuteInProcessResult:
    """A run for the last day that logs materializations of further days, as the marts do."""

    @dg.multi_asset(
        specs=[dg.AssetSpec(key, partitions_def=DAYS) for key in KEYS],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def marts(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        log_materializations(
            context,
            [
                dg.AssetMaterialization(key, partition=day, metadata={"day": day}, tags={"kind": "late"})
                for key in KEYS
                for day in partitions
            ],
        )
        for key in KEYS:
            yield dg.MaterializeResult(key)

    return dg.materialize([marts], instance=instance, partition_key="2026-09-26")


def test_the_shipped_instance_stores_in_batches(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.event_log_storage, QuickSqliteEventLogStorage)


def test_four_thousand_days_are_stored_within_seconds_and_all_of_them_show(instance: dg.DagsterInstance) -> None:
    partitions = DAYS.get_partition_keys()[:-1]
    started = time.monotonic()
    result = materialize(instance, partitions)
    seconds = time.monotonic() - started
    assert len(partitions) == 999
    for key in KEYS:
        # The run's own day as well.
        assert instance.get_materialized_partitions(key) == {*partitions, "2026-09-26"}
    assert len(instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)) == 4 * 1000
    # Ten times what it takes; one by one it is a minute.
    assert seconds < 20


def test_each_day_of_a_batch_can_be_looked_up(instance: dg.DagsterInstance) -> None:
    result = materialize(instance, ["2024-02-28", "2024-02-29"])
    for key in KEYS:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=["2024-02-29"]), limit=10
        ).records
        [record] = records
        assert record.run_id == result.run_id
        assert record.asset_materialization.metadata["day"].value == "2024-02-29"
        assert record.asset_materialization.tags["kind"] == "late"
    logged = instance.fetch_materializations(KEYS[0], limit=10, ascending=True).records
    assert [record.partition_key for record in logged] == ["2024-02-28", "2024-02-29", "2026-09-26"]
    assert len({record.storage_id for record in logged}) == 3


def test_the_latest_materialization_of_an_asset_is_the_last_one_logged(instance: dg.DagsterInstance) -> None:
    materialize(instance, ["2024-05-01"])
    storage = instance.event_log_storage
    run = materialize(instance, ["2024-01-01", "2024-01-02"])
    [record] = storage.get_asset_records([KEYS[0]])
    assert record.asset_entry.last_run_id == run.run_id
    newest = instance.fetch_materializations(KEYS[0], limit=1).records[0]
    assert record.asset_entry.last_materialization_record.storage_id == newest.storage_id


def test_a_run_for_a_range_of_days_plans_and_stores_all_of_them(instance: dg.DagsterInstance) -> None:
    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def mart(context: dg.AssetExecutionContext) -> None:
        pass

    result = dg.materialize(
        [mart],
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-12-31",
        },
    )
    assert len(instance.get_materialized_partitions(dg.AssetKey("mart"))) == 366
    planned = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    assert len(planned) == 366


def test_two_processes_can_write_and_each_sees_what_the_other_wrote(instance: dg.DagsterInstance) -> None:
    with dg.DagsterInstance.from_config(instance.root_directory) as other:
        materialize(other, ["2024-02-28"])
        assert instance.get_materialized_partitions(KEYS[0]) == {"2024-02-28", "2026-09-26"}
        run = materialize(instance, ["2024-02-29"])
        assert other.get_materialized_partitions(KEYS[0]) == {"2024-02-28", "2024-02-29", "2026-09-26"}
        materialize(other, ["2024-03-01"])
        assert "2024-03-01" in instance.get_materialized_partitions(KEYS[0])
        assert len(other.all_logs(run.run_id)) == len(instance.all_logs(run.run_id)) > 8


def test_deleting_a_run_deletes_its_log(instance: dg.DagsterInstance) -> None:
    run = materialize(instance, ["2024-02-28"])
    assert instance.all_logs(run.run_id)
    instance.delete_run(run.run_id)
    assert not instance.all_logs(run.run_id)


def test_where_the_storage_takes_no_batches_the_days_are_stored_all_the_same() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(instance, ["2024-02-28", "2024-02-29"])
        assert instance.get_materialized_partitions(KEYS[0]) == {"2024-02-28", "2024-02-29", "2026-09-26"}
