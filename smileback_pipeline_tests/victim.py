"""A process to be killed: replicates and publishes as the job does, without Dagster and dbt, and says how far it is."""

from __future__ import annotations

import sys
from pathlib import Path

from smileback_pipeline import replication
from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import ENDPOINTS
from smileback_pipeline.replica.publishing import publish
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.settings import validated_settings


def main(directory: Path, pages_a_commit: int) -> None:
    # A small account in many transactions.
    replication._PAGES_A_COMMIT = pages_a_commit
    replication._PAGES_AT_ONCE = 2
    settings = validated_settings(
        duckdb_path=directory / "warehouse.duckdb",
        analytics_path=directory / "analytics.duckdb",
        token_path=directory / "tokens.json",
    )
    print("ready", flush=True)
    warehouse = Warehouse(settings.duckdb_path)
    with SmileBackClient(settings) as client:
        for endpoint in ENDPOINTS:
            replication.replicate(endpoint, client, warehouse, settings)
    print("replicated", flush=True)
    publish(warehouse, settings.analytics_path)
    print("published", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
