"""The containers: what can be told of their files without an engine, and their processes on a real Postgres."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import httpx
import pytest
import yaml
from dagster._core.workspace.load_target import ModuleTarget, get_target_from_toml_data

from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, delay
from smileback_pipeline.settings import PROJECT_ROOT, Settings
from smileback_pipeline_tests.postgres import running_postgres
from smileback_pipeline_tests.terminal import free_port

COMPOSE = yaml.safe_load((PROJECT_ROOT / "compose.yaml").read_text())
SERVICES = ("code", "webserver", "daemon")
PATIENCE_SECONDS = 280
MARTS = ("csat_daily", "csat_response_daily", "nps_daily", "project_survey_daily")
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "smileback_pipeline"}


def test_the_instance_of_the_containers_differs_from_that_of_the_checkout_in_its_storage_alone() -> None:
    own = yaml.safe_load((PROJECT_ROOT / "deploy" / "dagster.yaml").read_text())
    shipped = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())
    storage = {
        "storage",
        "run_storage",
        "event_log_storage",
        "schedule_storage",
        "local_artifact_storage",
        "compute_logs",
    }
    assert {key: own[key] for key in own.keys() - storage} == {key: shipped[key] for key in shipped.keys() - storage}
    assert own["telemetry"] == {"enabled": False}


def test_what_is_turned_on_is_on_for_every_process_since_the_code_location_has_one_name() -> None:
    # `dagster dev` in the checkout reads pyproject.toml; with `-w`, and in the containers, it is a workspace.yaml.
    location = get_target_from_toml_data(tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text()))
    assert isinstance(location, ModuleTarget)
    names = {location.location_name}
    for workspace in ("workspace.yaml", "deploy/workspace.yaml"):
        [loaded] = yaml.safe_load((PROJECT_ROOT / workspace).read_text())["load_from"]
        names |= {settings["location_name"] for settings in loaded.values()}
    assert names == {REPOSITORY["repositoryLocationName"]}


def test_every_service_that_runs_our_code_has_the_volume_the_settings_and_the_database() -> None:
    assert set(COMPOSE["services"]) == {*SERVICES, "postgres"}
    for name in SERVICES:
        service = COMPOSE["services"][name]
        assert service["image"] == "smileback-pipeline"
        assert service["restart"] == "unless-stopped"
        assert service["env_file"] == ".env"
        assert [volume.split(":")[-1] for volume in service["volumes"]] == ["/data"]
        assert service["depends_on"]["postgres"] == {"condition": "service_healthy"}
        # Each variable of ours is one that we know, and means a place in the volume.
        for variable, value in service["environment"].items():
            if variable.startswith("SMILEBACK_"):
                assert variable.removeprefix("SMILEBACK_").lower() in Settings.model_fields
                assert value.startswith("/data/")
    assert COMPOSE["services"]["webserver"]["ports"] == ["127.0.0.1:3000:3000"], "the UI has no login"
    assert set(COMPOSE["volumes"]) == {"data", "postgres"}


def test_no_secret_and_no_data_gets_into_the_image_and_all_that_it_copies_is_there() -> None:
    ignored = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    assert {".env", "data/", "*.duckdb", ".git/", ".dagster/"} <= set(ignored)
    dockerfile = re.sub(r"\\\n", " ", (PROJECT_ROOT / "Dockerfile").read_text())
    instructions = [line.split(maxsplit=1) for line in dockerfile.splitlines() if line and not line.startswith("#")]
    assert {name for name, _ in instructions} <= {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "CMD"}
    for name, arguments in instructions:
        if name == "COPY":
            *sources, _ = [word for word in arguments.split() if not word.startswith("--")]
            assert all((PROJECT_ROOT / source).exists() for source in sources)
    users = [arguments for name, arguments in instructions if name == "USER"]
    assert users == ["smileback"]


@dataclass
class Deployment:
    """The processes of the containers, on one machine."""

    sandbox: Sandbox
    directory: Path
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self, name: str) -> None:
        words = shlex.split(COMPOSE["services"][name]["command"])
        # Containers have ports and addresses of their own.
        changes = {"4000": str(self.ports["code"]), "3000": str(self.ports["webserver"]), "0.0.0.0": "127.0.0.1"}
        changes["/dagster/workspace.yaml"] = str(self.directory / "dagster" / "workspace.yaml")
        command = [str(Path(sys.executable).with_name(words[0])), *(changes.get(word, word) for word in words[1:])]
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=PROJECT_ROOT, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """End a process and all that it started, as a power cut does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes.pop(name).wait()

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"http://127.0.0.1:{self.ports['webserver']}/graphql",
            json={"query": query, "variables": variables},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def wait(self, what: str, is_so: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: {self.log(name)}"
            with contextlib.suppress(httpx.TransportError):
                if found := is_so():
                    return found
            time.sleep(0.5)
        raise AssertionError(f"waited for {what}: {[self.log(name) for name in self.processes]}")

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-3000:]

    def published(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(duckdb.connect(self.data / "analytics.duckdb", read_only=True)) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("containers")
    ports = {"code": free_port(), "webserver": free_port()}
    home = directory / "dagster"
    home.mkdir()
    own = (PROJECT_ROOT / "deploy" / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(own.replace("/data", str(directory / "data")))
    workspace = (PROJECT_ROOT / "deploy" / "workspace.yaml").read_text()
    (home / "workspace.yaml").write_text(
        workspace.replace("host: code", "host: 127.0.0.1").replace("4000", str(ports["code"]))
    )
    with (
        running_postgres() as database,
        running_sandbox(World(now=datetime.now(UTC), scale=0.02)) as sandbox,
        pytest.MonkeyPatch.context() as environment,
    ):
        (directory / "data").mkdir()
        variables = {
            **sandbox.environment(),
            **database,
            **{
                name: value.replace("/data", str(directory / "data"))
                for name, value in COMPOSE["services"]["code"]["environment"].items()
                if name.startswith("SMILEBACK_")
            },
            "DAGSTER_HOME": str(home),
            "XDG_STATE_HOME": str(directory / "data" / "state"),
            "SMILEBACK_START_DATE": "2024-01-01",
            "SMILEBACK_REQUESTS_PER_MINUTE": "0",
        }
        for name, value in variables.items():
            environment.setenv(name, value)
        deployment = Deployment(sandbox, directory, ports)
        try:
            for name in SERVICES:
                deployment.start(name)
            yield deployment
        finally:
            for name in list(deployment.processes):
                deployment.kill(name)


@pytest.fixture(scope="module")
def instance(deployment: Deployment) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as instance:
        yield instance


# The tests of this deployment are one story and run in its order.


def finished(instance: dg.DagsterInstance, count: int) -> list[dg.DagsterRun] | None:
    """The runs, the newest first, once there are so many and all are over."""
    runs = list(instance.get_runs())
    return runs if len(runs) >= count and all(run.is_finished for run in runs) else None


@pytest.mark.timeout(600)
def test_the_sensor_is_turned_on_and_brings_the_first_run(deployment: Deployment, instance: dg.DagsterInstance) -> None:
    query = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"

    def is_loaded() -> bool:
        entries = deployment.ask(query)["workspaceOrError"]["locationEntries"]
        return [entry["locationOrLoadError"]["__typename"] for entry in entries] == ["RepositoryLocation"]

    deployment.wait("the code location", is_loaded)
    started = deployment.ask(
        """mutation ($selector: SensorSelector!) {
            startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
        }""",
        selector={**REPOSITORY, "sensorName": "smileback_changes"},
    )
    assert started["startSensor"]["__typename"] == "Sensor", started
    [run] = deployment.wait("the run", lambda: finished(instance, 1))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags["dagster/sensor_name"] == "smileback_changes"
    assert deployment.published("select count(*) from replica.reviews") == [
        (len(deployment.sandbox.world.live("reviews")),)
    ]


@pytest.mark.timeout(600)
def test_a_backfill_of_a_month_is_one_run_that_asks_nothing_and_changes_no_number(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    def numbers() -> list[list[tuple[Any, ...]]]:
        with contextlib.closing(duckdb.connect(deployment.data / "warehouse.duckdb", read_only=True)) as connection:
            return [connection.execute(f"select * from marts.{mart} order by all").fetchall() for mart in MARTS]

    today = datetime.now(UTC).date()
    days = [(today - timedelta(days=ago)).isoformat() for ago in range(30, 0, -1)]
    before, asked = numbers(), len(deployment.sandbox.requests)
    assert any(date.fromisoformat(days[0]) <= row[0] for row in before[0]), "there is something to rebuild"
    newest = instance.get_latest_materialization_event(dg.AssetKey(["replica", "reviews"]))
    started = deployment.ask(
        """mutation ($backfill: LaunchBackfillParams!) {
            launchPartitionBackfill(backfillParams: $backfill) { __typename ... on PythonError { message } }
        }""",
        backfill={"assetSelection": [{"path": ["marts", mart]} for mart in MARTS], "partitionNames": days},
    )
    assert started["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", started
    runs = deployment.wait("the backfill", lambda: finished(instance, 2))
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
    for mart in MARTS:
        events = instance.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION, dg.AssetKey(["marts", mart])), limit=1000
        )
        assert {event.partition_key for event in events if event.run_id == runs[0].run_id} == set(days)
    assert numbers() == before
    # Nothing but the sensor's own question.
    assert {request.endpoint for request in deployment.sandbox.requests[asked:]} <= {"reviews"}
    assert instance.get_latest_materialization_event(dg.AssetKey(["replica", "reviews"])) == newest


@pytest.mark.timeout(600)
def test_after_a_power_cut_the_run_is_failed_its_slot_is_free_and_it_is_tried_again(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    deployment.sandbox.faults.add("csat-agents", delay(600), times=FOREVER)
    asked = len(deployment.sandbox.requests.to("csat-agents"))
    before = len(instance.get_runs())
    started = deployment.ask(
        """mutation ($execution: ExecutionParams!) {
            launchRun(executionParams: $execution) { __typename ... on PythonError { message } }
        }""",
        execution={
            "selector": {**REPOSITORY, "jobName": "smileback_sync"},
            "runConfigData": "{}",
            "executionMetadata": {
                "tags": [{"key": "dagster/partition", "value": datetime.now(UTC).date().isoformat()}]
            },
        },
    )
    assert started["launchRun"]["__typename"] == "LaunchRunSuccess", started
    deployment.wait("the run", lambda: len(deployment.sandbox.requests.to("csat-agents")) > asked)
    [run] = instance.get_runs(limit=1)
    assert instance.event_log_storage.get_concurrency_run_ids() == {run.run_id}
    # The code server and the run that it has started, at once: nobody is left to say what happened.
    deployment.kill("code")
    deployment.sandbox.faults.clear()
    deployment.start("code")
    runs = deployment.wait("the second try", lambda: finished(instance, before + 2))
    retry, cut = runs[0], next(each for each in runs if each.run_id == run.run_id)
    assert cut.status == dg.DagsterRunStatus.FAILURE
    assert retry.tags["dagster/parent_run_id"] == run.run_id
    assert retry.status == dg.DagsterRunStatus.SUCCESS
    assert deployment.wait("the slot", lambda: not instance.event_log_storage.get_concurrency_run_ids())
