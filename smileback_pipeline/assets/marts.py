"""The marts: one dbt invocation that rebuilds the days that changed, and the days that were asked for."""

import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import DbtProject, dbt_assets
from dagster_dbt.asset_utils import get_subset_selection_for_context
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage
from dagster_dbt.dbt_manifest import validate_manifest

from smileback_pipeline.assets.dbt import (
    MARTS,
    WHOLE_HISTORY_TAG,
    MartsTranslator,
    fingerprint,
    parsed_manifest,
    run_dbt,
)
from smileback_pipeline.assets.metadata import Metadata, day_metadata, row_counts, score_metadata
from smileback_pipeline.assets.reporting import LogReporter, Reporter
from smileback_pipeline.assets.resources import WAREHOUSE_POOL, WarehouseResource
from smileback_pipeline.automation.event_log import log_materializations
from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.automation.partitions import build_daily_partitions
from smileback_pipeline.replica.privacy import privacy_of
from smileback_pipeline.replica.state import (
    BUILT_WITH,
    PUBLISHED_WITH,
    UNCHECKED,
    UNPUBLISHED,
    add_pending_days,
    clear_pending_days,
    load_note,
    pending_days,
    save_note,
)
from smileback_pipeline.replica.warehouse import transaction
from smileback_pipeline.settings import Settings, database_name

_UNIT_TESTS = "resource_type:unit_test"


def build_mart_assets(settings: Settings, project: DbtProject, reporter: Reporter | None) -> dg.AssetsDefinition:
    """All dbt models in one step: views and dimensions unpartitioned, the daily marts by day."""
    days = build_daily_partitions(settings)
    translator = MartsTranslator(days, project)
    built_with = fingerprint(settings)

    @dbt_assets(
        manifest=project.manifest_path,
        project=project,
        name="build_marts",
        # Unit tests judge the formulas, not the data: they run when the project is tested.
        exclude=_UNIT_TESTS,
        dagster_dbt_translator=translator,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
    )
    def build_marts(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> Iterator[Any]:
        if not context.selected_asset_keys:
            # Somebody asks for checks alone. What they find stays in the way of the next publication.
            events, failure = _build([], warehouse, project, translator, context)
            if failure:
                with warehouse.get_connection() as connection:
                    save_note(connection, UNCHECKED, "a check has failed")
            yield from events
            if failure:
                raise failure
            return
        is_routine = context.run.job_name == SYNC_JOB
        # A routine run is started for today, but has nothing to do for it unless something changed.
        asked = [] if is_routine else sorted(map(date.fromisoformat, _partition_keys(context)))
        with warehouse.get_connection() as connection:
            pending = pending_days(connection)
            is_stale = load_note(connection, BUILT_WITH) != built_with
            is_unchecked = is_stale or load_note(connection, UNCHECKED) is not None
            if is_routine and not (pending or is_unchecked or _is_unpublished(connection, settings)):
                context.log.info("Nothing has changed since the marts were built.")
                return
            add_pending_days(connection, asked)
            save_note(connection, UNPUBLISHED, "marts to be built")
            if is_stale:
                save_note(connection, UNCHECKED, "all marts are built anew")
        # The first time, or when the models or the time zone are no longer those that built the marts.
        (reporter or LogReporter(context.log)).rebuilding(sorted({*pending, *asked}), everything=is_stale)
        quickly = ["--exclude", f"tag:{WHOLE_HISTORY_TAG}"]
        arguments = ["--full-refresh"] if is_stale else [] if is_unchecked else quickly
        # Not the context's, which are those of the selection.
        is_apart = context.selected_asset_keys != build_marts.keys
        if is_apart and (pending or is_unchecked):
            # Some marts alone would disagree with those that are behind, and fail the checks that compare them.
            events, failure = _build(arguments, warehouse, project, translator)
            _log_caught_up(context, events, _daily(build_marts))
            if failure:
                raise failure
            with warehouse.get_connection() as connection:
                _note_built(connection, pending, built_with)
                described = {key: day_metadata(connection, key.path[-1], pending) for key in _daily(build_marts)}
            _log_days(context, days, described)
            pending, arguments = [], quickly
        # Passed on when dbt is done: only then the file can be asked for the numbers that go with them.
        events, failure = _build(arguments, warehouse, project, translator, context)
        with warehouse.get_connection() as connection:
            # To be asked for is not to be behind.
            clear_pending_days(connection, sorted({*asked} - {*pending}))
            if not failure and not is_apart:
                _note_built(connection, pending, built_with)
            described = _describe(context, connection, events, sorted({*pending, *asked}))
        yield from events
        if failure:
            raise failure
        _log_days(context, days, described)

    return build_marts


def _is_unpublished(connection: duckdb.DuckDBPyConnection, settings: Settings) -> bool:
    """Whether analysts do not have what there is, as they are meant to see it."""
    return (
        load_note(connection, UNPUBLISHED) is not None
        or load_note(connection, PUBLISHED_WITH) != privacy_of(settings).fingerprint
        or not (settings.analytics_path.exists() and settings.scorecard_path.exists())
    )


def _note_built(connection: duckdb.DuckDBPyConnection, days: list[date], built_with: str) -> None:
    """Note that all marts are built and checked."""
    with transaction(connection):
        clear_pending_days(connection, days)
        save_note(connection, BUILT_WITH, built_with)
        save_note(connection, UNCHECKED, None)


def _build(
    arguments: Sequence[str],
    warehouse: WarehouseResource,
    project: DbtProject,
    translator: MartsTranslator,
    context: dg.AssetExecutionContext | None = None,
) -> tuple[list[Any], Exception | None]:
    """The events of `dbt build`, and how it failed if it did; of all marts, or of what a context's run asks for."""
    manifest = validate_manifest(project.manifest_path)
    selection, indirectly = ["--exclude", _UNIT_TESTS], None
    if context:
        selection, indirectly = get_subset_selection_for_context(
            context, manifest, "fqn:*", _UNIT_TESTS, None, translator, None
        )
    indirect = ["--indirect-selection", indirectly] if indirectly else []
    # A folder of its own, since runs of other accounts can share the checkout.
    with tempfile.TemporaryDirectory() as target, warehouse.warehouse.kept_open():
        messages, failure = run_dbt(
            ["build", "--no-write-json", *arguments, *selection, *indirect],
            Path(target),
            parsed_manifest(project, database_name(warehouse.warehouse.path)),
        )
    events = [
        event
        for message in messages
        for event in DbtCoreCliEventMessage(message, {}).to_default_asset_events(
            manifest, translator, context, project=project
        )
    ]
    return events, failure


def _partition_keys(context: dg.AssetExecutionContext) -> set[str]:
    """The days that the run was started for."""
    has_partitions = context.has_partition_key or context.has_partition_key_range
    return set(context.partition_keys) if has_partitions else set()


def _describe(
    context: dg.AssetExecutionContext, connection: duckdb.DuckDBPyConnection, events: list[Any], rebuilt: list[date]
) -> dict[dg.AssetKey, dict[str, Metadata]]:
    """Put metadata beside the marts that were built; return what is to be told of each day of the daily ones."""
    built = [context.asset_key_for_output(event.output_name) for event in events if isinstance(event, dg.Output)]
    by_day = {}
    for key, rows in zip(built, row_counts(connection, [key.path for key in built]), strict=True):
        if rows is not None:
            context.add_asset_metadata({"dagster/row_count": rows}, asset_key=key)
        if key.path == [MARTS, "scores"]:
            context.add_asset_metadata({"days_rebuilt": len(rebuilt), **score_metadata(connection)}, asset_key=key)
        elif key in _daily(context.assets_def):
            by_day[key] = day_metadata(connection, key.path[-1], rebuilt)
            for partition in _partition_keys(context) & set(by_day[key]):
                context.add_asset_metadata(by_day[key][partition], asset_key=key, partition_key=partition)
    return by_day


def _daily(marts: dg.AssetsDefinition) -> set[dg.AssetKey]:
    """The marts that have partitions."""
    return {key for key, spec in marts.specs_by_key.items() if spec.partitions_def}


def _log_caught_up(context: dg.AssetExecutionContext, events: list[Any], daily: set[dg.AssetKey]) -> None:
    """Record what was built and checked without having been asked for; the daily marts by their days, elsewhere."""
    for event in events:
        is_built = isinstance(event, dg.AssetMaterialization) and event.asset_key not in daily
        if is_built or isinstance(event, dg.AssetCheckEvaluation):
            context.log_event(event)


def _log_days(
    context: dg.AssetExecutionContext,
    days: dg.DailyPartitionsDefinition,
    described: dict[dg.AssetKey, dict[str, Metadata]],
) -> None:
    """Record the rebuilt days as materialized, besides those that the run was started for."""
    others = set(days.get_partition_keys()) - _partition_keys(context)
    log_materializations(
        context,
        [
            dg.AssetMaterialization(key, partition=partition, metadata=by_day[partition])
            for key, by_day in sorted(described.items())
            for partition in sorted(others & set(by_day))
        ],
    )
