"""The marts: one dbt invocation that rebuilds the days that changed, and the days that were asked for."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

from smileback_pipeline.assets.dbt import MartsTranslator, fingerprint
from smileback_pipeline.assets.reporting import LogReporter, Reporter
from smileback_pipeline.assets.resources import WarehouseResource
from smileback_pipeline.automation.event_log import log_materializations
from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.automation.partitions import build_daily_partitions
from smileback_pipeline.replica.state import (
    BUILT_WITH,
    UNPUBLISHED,
    add_pending_days,
    clear_pending_days,
    load_note,
    pending_days,
    save_note,
)
from smileback_pipeline.replica.warehouse import transaction
from smileback_pipeline.settings import Settings


def build_mart_assets(
    settings: Settings, project: DbtProject, reporter: Reporter | None
) -> dg.AssetsDefinition:
    """All dbt models in one step: views and dimensions unpartitioned, the daily marts by day."""
    days = build_daily_partitions(settings)
    built_with = fingerprint(settings)

    @dbt_assets(
        manifest=project.manifest_path,
        project=project,
        name="build_marts",
        # Unit tests judge the formulas, not the data: they run when the project is tested.
        exclude="resource_type:unit_test",
        dagster_dbt_translator=MartsTranslator(days),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def build_marts(
        context: dg.AssetExecutionContext, dbt: DbtCliResource, warehouse: WarehouseResource
    ) -> Iterator[Any]:
        # A routine run is started for today, but has nothing to do for it unless something changed.
        asked = [] if context.run.job_name == SYNC_JOB or not context.has_partition_key_range else _asked(context)
        with warehouse.get_connection() as connection:
            add_pending_days(connection, asked)
            pending = pending_days(connection)
            is_stale = load_note(connection, BUILT_WITH) != built_with
            is_unpublished = load_note(connection, UNPUBLISHED) is not None or not settings.analytics_path.exists()
            if not (pending or is_stale or is_unpublished):
                context.log.info("Nothing has changed since the marts were built.")
                return
            save_note(connection, UNPUBLISHED, "marts to be built")
        # The first time, or when the models or the time zone are no longer those that built the marts.
        (reporter or LogReporter(context.log)).rebuilding(pending, everything=is_stale)
        invocation = dbt.cli(["build", *(["--full-refresh"] if is_stale else [])], context=context)
        try:
            yield from invocation.stream()
        finally:
            _keep_parsed(invocation.target_path, project)
        with warehouse.get_connection() as connection, transaction(connection):
            clear_pending_days(connection, pending)
            save_note(connection, BUILT_WITH, built_with)
        _log_days(context, days, pending)

    return build_marts


def _keep_parsed(target: Path, project: DbtProject) -> None:
    """Keep what dbt parsed, which saves the next invocation 2 s, and nothing else of the invocation's folder."""
    parsed = target / "partial_parse.msgpack"
    if parsed.exists():
        parsed.replace(project.project_dir / project.target_path / parsed.name)
    shutil.rmtree(target, ignore_errors=True)


def _asked(context: dg.AssetExecutionContext) -> list[date]:
    return [date.fromisoformat(key) for key in context.partition_keys]


def _log_days(
    context: dg.AssetExecutionContext, days: dg.DailyPartitionsDefinition, rebuilt: list[date]
) -> None:
    """Record the rebuilt days as materialized, besides those that the run was started for."""
    own = set(context.partition_keys) if context.has_partition_key_range else set()
    others = {day.isoformat() for day in rebuilt} & set(days.get_partition_keys()) - own
    daily = {spec.key for spec in context.assets_def.specs if spec.partitions_def == days}
    log_materializations(
        context,
        [
            dg.AssetMaterialization(key, partition=partition)
            for key in sorted(daily & context.selected_asset_keys)
            for partition in sorted(others)
        ],
    )
