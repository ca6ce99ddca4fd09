"""A published file as a sync leaves it: marts built by dbt from a replica of the test's choosing."""

import os
import subprocess
import sys
from pathlib import Path

from smileback_pipeline.replica.publishing import publish
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.settings import PROJECT_ROOT


def build_marts(warehouse: Path, *, timezone: str = "UTC") -> None:
    """Build all marts of the file anew."""
    scratch = warehouse.parent / "dbt"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dbt.cli.main", "run", "--full-refresh"),
            *("--target-path", scratch / "target", "--log-path", scratch / "logs"),
        ],
        cwd=PROJECT_ROOT / "dbt_project",
        env={**os.environ, "SMILEBACK_DUCKDB_PATH": str(warehouse), "SMILEBACK_TIMEZONE": timezone},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout


def published(warehouse: Path) -> Path:
    """Build the marts and publish; return the path of the published file."""
    build_marts(warehouse)
    target = warehouse.with_name("analytics.duckdb")
    publish(Warehouse(warehouse), target)
    return target
