"""The dbt project as Dagster sees it: its manifest, how its models become assets, and how dbt is called."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import filelock
from dagster._utils.interrupts import raise_interrupts_as
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from smileback_pipeline.assets.checks import MARTS_FRESHNESS
from smileback_pipeline.assets.lineage import load_lineage, save_lineage, table_lineage
from smileback_pipeline.assets.metadata import NET_CSAT_RULE, OWNERS
from smileback_pipeline.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

DBT_DIRECTORY = PROJECT_ROOT / "dbt_project"
MARTS = "marts"
DAILY_TAG = "daily"
WHOLE_HISTORY_TAG = "whole_history"
"""Of the tests that read all of history, which an increment leaves out."""
# How many of the models and tests that failed are named.
_TOLD = 3
# The messages that dagster-dbt makes events of.
_RESULTS = ("LogModelResult", "LogTestResult")
# Whose macros and parser make the manifest.
_PARSERS = ("dbt-core", "dbt-adapters", "dbt-duckdb")
_SOURCES = ("dbt_project.yml", "profiles.yml", "models/**/*", "macros/**/*", "tests/**/*")


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
    """Return the dbt project, parsed anew where its files, or dbt itself, are not what it was parsed from."""
    # A folder of its own: what people have dbt write into `target` may be of models that they are trying out.
    project = DbtProject(DBT_DIRECTORY, target_path=Path("target", "parsed"), packaged_project_dir=None)
    target = project.project_dir / project.target_path
    # By content: a file's time says nothing where it was copied, or where dbt was exchanged.
    parsed_from, needed = target / "parsed_from", _digest(*map(version, _PARSERS))
    with filelock.FileLock(DBT_DIRECTORY / ".parse.lock"):
        if not parsed_from.exists() or parsed_from.read_text() != needed:
            _parse(project, target)
            parsed_from.write_text(needed)
    return project


def _parse(project: DbtProject, target: Path) -> None:
    # In memory, since the file may be in use.
    options = ["--quiet", "--target", "memory"]
    _, failure = run_dbt(["parse", "--no-partial-parse", *options], target)
    if not failure:
        # For the lineage.
        _, failure = run_dbt(["compile", "--no-write-json", *options], target, parsed_manifest(project, "memory"))
    if failure:
        raise failure
    save_lineage(target, _lineage_path(project))
    # What dbt leaves are cycles, 50 MB of them, beside all that a run needs.
    gc.collect()


def parsed_manifest(project: DbtProject, database: str) -> Manifest:
    """What dbt has parsed, for models in a database: to parse them again would take each run half a second or two."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    parsed = project.project_dir / project.target_path / "partial_parse.msgpack"
    manifest: Manifest = Manifest.from_msgpack(parsed.read_bytes(), decoder=extended_mashumuro_decoder)
    for node in (*manifest.nodes.values(), *manifest.sources.values()):
        node.database = database
    return manifest


def source_descriptions(project: DbtProject) -> dict[str, dict[str, str]]:
    """What the columns of the replica hold, by table and column, as the dbt project says it."""
    sources = json.loads(project.manifest_path.read_text())["sources"].values()
    return {
        source["name"]: {name: column["description"].strip() for name, column in source["columns"].items()}
        for source in sources
    }


def run_dbt(
    arguments: Sequence[str], target: Path, manifest: Manifest | None = None
) -> tuple[list[dict[str, Any]], Exception | None]:
    """Run dbt, which writes into folder `target`; return what it said of each result, and how it failed if it did.

    It parses the project unless there is a manifest, which serves one run.
    Inside this process: one of its own would take 2 s and 150 MB to load what Dagster's integration has loaded here.
    Raises DagsterExecutionInterruptedError when the run is told to end.
    """
    # 0.2 s, for a run that has something to build.
    from dbt.cli.main import dbtRunner
    from dbt_common.events.functions import msg_to_dict

    heard: list[Any] = []
    interruptions: list[KeyboardInterrupt] = []

    class Interruption(KeyboardInterrupt):
        """Noted as well, since dbt may take it for a failure of its own, such as a connection that is closed."""

        def __init__(self) -> None:
            super().__init__()
            interruptions.append(self)

    def hear(message: Any) -> None:
        if message.info.name in _RESULTS:
            heard.append(message)

    places = {"project-dir": DBT_DIRECTORY, "profiles-dir": DBT_DIRECTORY, "target-path": target, "log-path": target}
    options = [f"--{name}={path}" for name, path in places.items()]
    runner = dbtRunner(manifest, callbacks=[hear])
    # What ends dbt's queries at once.
    with contextlib.suppress(Interruption), raise_interrupts_as(Interruption):
        outcome = runner.invoke([*arguments, *options, "--no-use-colors", "--log-level-file=none"])
    if interruptions:
        raise dg.DagsterExecutionInterruptedError
    return list(map(msg_to_dict, heard)), None if outcome.success else _told(outcome)


def _told(outcome: dbtRunnerResult) -> Exception:
    """The failure in a sentence, and with it all that dbt said of each model and test."""
    results = getattr(outcome.result, "results", [])
    failed = {result.node.name: result.message or "" for result in results if result.status in ("error", "fail")}
    if not failed:
        return dg.Failure(f"dbt failed: {outcome.exception}")
    named = ", ".join(f"{name} ({_reason(failed[name])})" for name in itertools.islice(failed, _TOLD))
    others = f" and {len(failed) - _TOLD} more" if len(failed) > _TOLD else ""
    return dg.Failure(
        f"dbt failed at {named}{others}. The run's log in Dagster's UI has all that dbt said of them.",
        metadata={name: dg.MetadataValue.text(message) for name, message in failed.items()},
    )


def _reason(message: str) -> str:
    """Of a failed test the only line; of an error the second: the first says where, what follows may quote SQL."""
    lines = message.strip().splitlines() or [""]
    return (lines[1:] or lines)[0].strip()


def fingerprint(settings: Settings) -> str:
    """What the marts are made by: when it changes, all of them have to be built anew."""
    return _digest(settings.timezone)


def _digest(*others: str) -> str:
    """Of the files of the project, and of what else matters."""
    digest = hashlib.sha256("\0".join(others).encode())
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
    """Let the dbt inside this process know where the warehouse is."""
    os.environ.update(dbt_environment(settings))


def _lineage_path(project: DbtProject) -> Path:
    return project.project_dir / project.target_path / "column_lineage.json"


def _source_files() -> list[Path]:
    return [path for pattern in _SOURCES for path in DBT_DIRECTORY.glob(pattern) if path.is_file()]
