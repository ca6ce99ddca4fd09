"""The only wiring: from settings to Dagster definitions."""

from __future__ import annotations

import dagster as dg

from smileback_pipeline.assets.dbt import (
    prepared_dbt_project,
    set_dbt_environment,
    source_descriptions,
)
from smileback_pipeline.assets.marts import build_mart_assets
from smileback_pipeline.assets.published import build_published_asset, build_scorecard_asset
from smileback_pipeline.assets.replica import build_replica_assets, build_versions_asset
from smileback_pipeline.assets.reporting import REPORTING, Reporter, build_logger
from smileback_pipeline.assets.resources import SmileBackResource, WarehouseResource
from smileback_pipeline.automation.jobs import build_sync_job
from smileback_pipeline.automation.schedules import build_schedules
from smileback_pipeline.automation.sensors import build_change_sensor
from smileback_pipeline.settings import Settings, load_settings


def build_definitions(settings: Settings, reporter: Reporter | None = None) -> dg.Definitions:
    """Everything that Dagster shows and runs for one SmileBack account.

    `reporter` hears how a sync is going; without one the run's log does.
    """
    set_dbt_environment(settings)
    project = prepared_dbt_project()
    columns = source_descriptions(project)
    marts = build_mart_assets(settings, project, reporter)
    return dg.Definitions(
        assets=[
            build_replica_assets(settings, columns, reporter),
            build_versions_asset(columns["review_versions"]),
            marts,
            build_published_asset(settings, sorted(marts.keys)),
            build_scorecard_asset(settings),
        ],
        jobs=[build_sync_job()],
        # Off until somebody turns them on.
        schedules=build_schedules(settings),
        sensors=[build_change_sensor(settings)],
        resources={
            "smileback": SmileBackResource.from_settings(settings),
            "warehouse": WarehouseResource(database=str(settings.duckdb_path)),
        },
        loggers={REPORTING: build_logger(reporter)} if reporter else None,
        # One process: DuckDB has a single writer, and a process a step would cost 3 s each.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` loads; it needs neither credentials nor the network."""
    return build_definitions(load_settings())
