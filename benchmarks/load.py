"""Our sync step alone: the walk, landing and the state around them, as a process of its own, without Dagster and dbt.

`python -m benchmarks.load`, configured by the SMILEBACK_ variables.
"""

from __future__ import annotations

from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import ENDPOINTS
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.replication import replicate
from smileback_pipeline.settings import load_settings


def main() -> None:
    settings = load_settings()
    warehouse = Warehouse(settings.duckdb_path)
    with SmileBackClient(settings) as client:
        for endpoint in ENDPOINTS:
            replicate(endpoint, client, warehouse, settings)


if __name__ == "__main__":
    main()
