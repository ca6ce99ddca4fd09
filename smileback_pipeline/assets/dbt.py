"""The dbt project as Dagster sees it: its manifest, how its models become assets, and how dbt is called."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import filelock
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject
from packaging.version import Version

from smileback_pipeline.assets.checks import MARTS_FRESHNESS
from smileback_pipeline.assets.lineage import load_lineage, save_lineage, table_lineage
from smileback_pipeline.assets.metadata import NET_CSAT_RULE, OWNERS
from smileback_pipeline.settings import PROJECT_ROOT, Settings

DBT_DIRECTORY = PROJECT_ROOT / "dbt_project"
MARTS = "marts"
DAILY_TAG = "daily"
WHOLE_HISTORY_TAG = "whole_history"
"""Of the tests that read all of history, which an increment leaves out."""
_SOURCES = ("dbt_project.yml", "profiles.yml", "models/**/*", "macros/**/*", "tests/**/*")


class MartsDbt(DbtCliResource):
    """dbt's command line, without asking dbt for its version first, which takes 3 s and the network.

    And without a second dbt inside Dagster's process, which takes 2 s and 50 MB for `fetch_row_counts` and the like.
    """

    @property
    def _cli_version(self) -> Version:
        return Version(importlib.metadata.version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> None:  # type: ignore[override]
        return None


class MartsTranslator(DagsterDbtTranslator):
    """Keys are `[schema, model]`; groups are the project's layers; models tagged `daily` are partitioned."""

    def __init__(self, days: dg.DailyPartitionsDefinition, project: DbtProject) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=False))
        self._days = days
        self._lineage = load_lineage(_lineage_path(project))

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """See DagsterDbtTranslator."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        model = manifest["nodes"].get(unique_id)
        if model is None:
            return spec
        layer = model["fqn"][1]
        keys = {
            parent: self.get_asset_key((manifest["nodes"] | manifest["sources"])[parent])
            for parent in model["depends_on"]["nodes"]
        }
        return spec.replace_attributes(
            group_name=layer,
            # Without the SQL, which is for those who read code.
            description=model["description"].strip(),
            owners=OWNERS,
            partitions_def=self._days if DAILY_TAG in model["tags"] else None,
            freshness_policy=MARTS_FRESHNESS if layer == MARTS else None,
            # The pending days steer the work; they are no data that marts are made of.
            deps=[dep for dep in spec.deps if dep.asset_key.path[-1] != "pending_days"],
            skippable=True,
        ).merge_attributes(
            metadata={
                "dagster/table_name": f"{model['schema']}.{model['name']}",
                "dagster/column_lineage": table_lineage(self._lineage[unique_id], keys),
                **({"net_csat_as_smileback_explains_it": NET_CSAT_RULE} if "net_csat" in model["raw_code"] else {}),
            }
        )

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """See DagsterDbtTranslator, which does not look at a test's description."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        test = manifest["nodes"][unique_id]
        # A step that leaves out a blocking check is warned about each time. Any failed test fails the step anyway.
        is_blocking = bool(spec and spec.blocking and WHOLE_HISTORY_TAG not in test["tags"])
        return spec and spec._replace(description=test["description"] or None, blocking=is_blocking)


def prepared_dbt_project() -> DbtProject:
    """Return the dbt project, parsed anew where a file of it is newer than its manifest."""
    project = DbtProject(DBT_DIRECTORY, packaged_project_dir=None)
    with filelock.FileLock(DBT_DIRECTORY / ".parse.lock"):
        made = (project.manifest_path, _lineage_path(project))
        newest = max(path.stat().st_mtime for path in _source_files())
        if not all(path.exists() and path.stat().st_mtime >= newest for path in made):
            # Compiled for the lineage; in memory, since the file may be in use.
            arguments = ["compile", "--quiet", "--target", "memory"]
            dbt_command_line().cli(arguments, target_path=project.project_dir / project.target_path).wait()
            save_lineage(project.project_dir / project.target_path, _lineage_path(project))
    return project


def source_descriptions(project: DbtProject) -> dict[str, dict[str, str]]:
    """What the columns of the replica hold, by table and column, as the dbt project says it."""
    sources = json.loads(project.manifest_path.read_text())["sources"].values()
    return {
        source["name"]: {name: column["description"].strip() for name, column in source["columns"].items()}
        for source in sources
    }


def dbt_command_line() -> MartsDbt:
    """The dbt that is installed beside this Python, whatever else PATH has."""
    return MartsDbt(
        project_dir=str(DBT_DIRECTORY),
        profiles_dir=str(DBT_DIRECTORY),
        dbt_executable=str(Path(sys.executable).with_name("dbt")),
    )


def fingerprint(settings: Settings) -> str:
    """What the marts are made by: when it changes, all of them have to be built anew."""
    digest = hashlib.sha256(settings.timezone.encode())
    for path in sorted(_source_files()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def dbt_environment(settings: Settings) -> dict[str, str]:
    """The variables that the dbt project reads."""
    return {
        "SMILEBACK_DUCKDB_PATH": str(settings.duckdb_path),
        "SMILEBACK_TIMEZONE": settings.timezone,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def set_dbt_environment(settings: Settings) -> None:
    """Let the dbt that this process starts, and the parser inside it, know where the warehouse is."""
    os.environ.update(dbt_environment(settings))


def _lineage_path(project: DbtProject) -> Path:
    return project.project_dir / project.target_path / "column_lineage.json"


def _source_files() -> list[Path]:
    return [path for pattern in _SOURCES for path in DBT_DIRECTORY.glob(pattern) if path.is_file()]
