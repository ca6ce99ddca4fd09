"""The analysts' guide and its answers: what docs/analysts.md asks in SQL, asked of a sandbox account of a fixed seed.

`python -m smileback_pipeline_tests.analysts_guide` writes the answers into the guide anew.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.assets.dbt import DBT_DIRECTORY, dbt_environment
from smileback_pipeline.endpoints import ENDPOINTS, REVIEWS
from smileback_pipeline.replica.publishing import publish
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.replication import replicate
from smileback_pipeline.sandbox import World, running_sandbox
from smileback_pipeline.settings import PROJECT_ROOT, Settings

GUIDE = PROJECT_ROOT / "docs" / "analysts.md"
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
# Its reviews are synced daily for three months, which is its history.
DAYS_SYNCED = 90
_QUESTION = re.compile(r"```sql\n(?P<sql>.*?)```\n\n(?P<answer>(?:\|[^\n]*\n)*)\n?", re.DOTALL)


def publish_sample(directory: Path) -> Path:
    """Sync, build and publish the sample account; return the file that analysts would open."""
    world = World(seed=7, now=NOW - timedelta(days=DAYS_SYNCED))
    with running_sandbox(world) as sandbox:
        given = {name.removeprefix("SMILEBACK_").lower(): value for name, value in sandbox.environment().items()}
        settings = Settings.model_validate(
            {
                **given,
                "duckdb_path": directory / "warehouse.duckdb",
                "analytics_path": directory / "analytics.duckdb",
                "token_path": directory / "tokens.json",
                "requests_per_minute": 0,
                "timezone": "UTC",
            }
        )
        warehouse = Warehouse(settings.duckdb_path)
        with SmileBackClient(settings) as client:
            for day in range(DAYS_SYNCED):
                world.advance(to=NOW - timedelta(days=DAYS_SYNCED - day))
                replicate(REVIEWS, client, warehouse, settings)
            world.advance(to=NOW)
            for endpoint in ENDPOINTS:
                # In full, since what is recent by our clock is not so by the sample's.
                replicate(endpoint, client, warehouse, settings, full=True)
    subprocess.run(
        [Path(sys.executable).with_name("dbt"), "run", "--quiet", "--target-path", directory / "target"],
        cwd=DBT_DIRECTORY,
        env={**os.environ, **dbt_environment(settings)},
        check=True,
    )
    publish(warehouse, settings.analytics_path)
    return settings.analytics_path


def questions(guide: str) -> list[str]:
    """The queries of the guide."""
    return [found["sql"] for found in _QUESTION.finditer(guide)]


def answered(guide: str, published: Path) -> str:
    """The guide with its answers, as the published file gives them."""
    with contextlib.closing(duckdb.connect(published, read_only=True)) as connection:
        return _QUESTION.sub(lambda found: f"```sql\n{found['sql']}```\n\n{_table(connection, found['sql'])}\n", guide)


def _table(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    relation = connection.sql(sql)
    lines = [relation.columns, ["---"] * len(relation.columns), *relation.fetchall()]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.10g}"
        case date():
            return value.isoformat()
        case list():
            return ", ".join(map(_cell, value))
        case _:
            return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        GUIDE.write_text(answered(GUIDE.read_text(), publish_sample(Path(directory))))
