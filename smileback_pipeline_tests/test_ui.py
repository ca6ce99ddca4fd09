"""The Dagster UI in a real browser, over a webserver and a daemon with a fresh home, against the sandbox.

Runs are launched as the UI does it, by the same GraphQL; what they left is looked at in the browser.
SMILEBACK_SCREENSHOTS names a directory that keeps what was seen.
"""

import contextlib
import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline_tests.dagster_home import create_dagster_home
from smileback_pipeline_tests.terminal import COMMAND, free_port

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_SECONDS = 180
TODAY = datetime.now(UTC).date()

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium here to look at the UI with."),
    pytest.mark.timeout(900),
]


@dataclass
class Ui:
    """A UI that is served, and a browser in front of it."""

    url: str
    sandbox: Sandbox
    directory: Path
    page: Any
    process: subprocess.Popen[bytes]

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60, trust_env=False
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    @functools.cached_property
    def repository(self) -> dict[str, str]:
        """How the project is called in the instance, once its code is loaded."""

        def names() -> list[dict[str, Any]]:
            nodes = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
            return self.ask(nodes)["repositoriesOrError"]["nodes"]

        [found] = until(names)
        return {"repositoryName": found["name"], "repositoryLocationName": found["location"]["name"]}

    def look(self, path: str, *texts: str, name: str | None = None) -> None:
        """Open a page, see that it says the texts, and keep a picture of it under `name`."""
        self.page.goto(f"{self.url}{path}")
        for text in texts:
            self.page.get_by_text(text).first.wait_for(state="visible", timeout=PATIENCE_SECONDS * 1000)
        if name:
            self.keep(name)

    def keep(self, name: str) -> None:
        """Keep a picture of what is shown, if somebody wants pictures."""
        if directory := os.environ.get("SMILEBACK_SCREENSHOTS"):
            self.page.wait_for_timeout(2000)
            self.page.screenshot(path=Path(directory) / f"{name}.png")

    def launch(self) -> str:
        """Start a run of the job for today, as its launchpad does, and return its id."""
        data = self.ask(
            """
            mutation ($parameters: ExecutionParams!) {
                launchRun(executionParams: $parameters) {
                    __typename
                    ... on LaunchRunSuccess { run { runId } }
                }
            }
            """,
            parameters={
                "selector": {**self.repository, "pipelineName": "smileback_sync"},
                "mode": "default",
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": TODAY.isoformat()}]},
            },
        )["launchRun"]
        assert data["__typename"] == "LaunchRunSuccess", data
        return data["run"]["runId"]

    def outcome(self, run_id: str) -> str:
        """How a run ended."""

        def ended() -> str | None:
            query = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
            status = self.ask(query, id=run_id)["runOrError"]["status"]
            return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

        return until(ended)

    def runs(self) -> list[str]:
        """Ids of all runs, the newest first."""
        runs = self.ask("{ runsOrError { ... on Runs { results { runId } } } }")["runsOrError"]["results"]
        return [run["runId"] for run in runs]


def until(found: Callable[[], Any]) -> Any:
    """What is found in the end; fails when that takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.5)
    raise AssertionError(f"Nothing came of {found.__qualname__} in {PATIENCE_SECONDS} s.")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    from playwright.sync_api import sync_playwright

    directory = tmp_path_factory.mktemp("ui")
    home = create_dagster_home(directory)
    with contextlib.ExitStack() as stack:
        world = World(now=datetime.now(UTC) - timedelta(minutes=10), scale=0.1)
        sandbox = stack.enter_context(running_sandbox(world))
        port = free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SMILEBACK_")},
            **sandbox.environment(),
            "SMILEBACK_DUCKDB_PATH": str(directory / "warehouse.duckdb"),
            "SMILEBACK_ANALYTICS_PATH": str(directory / "analytics.duckdb"),
            "SMILEBACK_SCORECARD_PATH": str(directory / "scorecard.html"),
            "SMILEBACK_TOKEN_PATH": str(directory / "tokens.json"),
            "SMILEBACK_START_DATE": "2024-01-01",
            "SMILEBACK_REQUESTS_PER_MINUTE": "0",
            "XDG_STATE_HOME": str(directory),
            "DAGSTER_HOME": str(home),
        }
        log = stack.enter_context((directory / "dev.log").open("w"))
        process = subprocess.Popen(
            # In the background of a script, where Ctrl-C is ignored.
            ["sh", "-c", 'trap "" INT; exec "$0" "$@"', COMMAND, "dev", "--port", str(port)],
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        url = f"http://127.0.0.1:{port}"

        def is_up() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{url}/server_info", trust_env=False).is_success
            return False

        until(is_up)
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        stack.callback(browser.close)
        yield Ui(url, sandbox, directory, browser.new_page(viewport={"width": 1440, "height": 900}), process)


# The tests of this module are one story and run in its order.


def test_the_graph_tells_the_layers(ui: Ui) -> None:
    ui.look("/asset-groups", "replica", "staging", "marts", "published")


def test_materializing_all_publishes_the_scores(ui: Ui) -> None:
    ui.look("/asset-groups", "replica")
    ui.page.get_by_role("button", name="Materialize all").click()
    launch = ui.page.get_by_role("button", name=re.compile("^Launch")).last

    def has_chosen_latest() -> bool:
        # On a busy machine the dialog can show before it knows the days, and chooses none.
        ui.page.get_by_role("button", name="Latest").click()
        return launch.is_enabled()

    until(has_chosen_latest)
    ui.keep("materialize-all")
    launch.click()
    [run] = until(ui.runs)
    assert ui.outcome(run) == "SUCCESS"
    with contextlib.closing(duckdb.connect(ui.directory / "analytics.duckdb", read_only=True)) as connection:
        reviews = connection.execute("select count(*) from replica.reviews").fetchone()
    assert reviews == (len(ui.sandbox.world.live("reviews")),)


def test_a_run_that_is_launched_from_the_ui_publishes_the_scores(ui: Ui) -> None:
    assert ui.outcome(ui.launch()) == "SUCCESS"
    ui.look("/asset-groups", "replica", name="graph")
    with contextlib.closing(duckdb.connect(ui.directory / "analytics.duckdb", read_only=True)) as connection:
        reviews = connection.execute("select count(*) from replica.reviews").fetchone()
    assert reviews == (len(ui.sandbox.world.live("reviews")),)


def test_the_trend_is_shown_as_a_picture(ui: Ui) -> None:
    ui.look("/assets/marts/scores?view=events", "net_csat_of", "last_months")
    ui.page.get_by_text("[Show Markdown]").first.click()
    picture = ui.page.locator("img[src^='data:image/png']").first
    picture.wait_for(state="visible", timeout=PATIENCE_SECONDS * 1000)
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 600
    ui.keep("trend")
    ui.look("/assets/replica/reviews?view=overview", "Row count", "Freshness policy", name="reviews")


def test_a_backfill_of_a_month_asks_smileback_nothing(ui: Ui) -> None:
    asked, runs = len(ui.sandbox.requests), len(ui.runs())
    days = [(TODAY - timedelta(days=day)).isoformat() for day in range(30)]
    daily = ("csat_daily", "csat_response_daily", "nps_daily", "project_survey_daily")
    backfill = ui.ask(
        """
        mutation ($parameters: LaunchBackfillParams!) {
            launchPartitionBackfill(backfillParams: $parameters) {
                __typename
                ... on LaunchBackfillSuccess { backfillId }
                ... on PythonError { message }
            }
        }
        """,
        parameters={"assetSelection": [{"path": ["marts", mart]} for mart in daily], "partitionNames": days},
    )["launchPartitionBackfill"]
    assert backfill["__typename"] == "LaunchBackfillSuccess", backfill

    def status() -> str | None:
        which = f'partitionBackfillOrError(backfillId: "{backfill["backfillId"]}")'
        answer = ui.ask(f"{{ {which} {{ ... on PartitionBackfill {{ status }} }} }}")["partitionBackfillOrError"]
        return answer["status"] if answer["status"] not in ("REQUESTED", "COMPLETED") else None

    assert until(status) == "COMPLETED_SUCCESS"
    assert (len(ui.sandbox.requests), len(ui.runs())) == (asked, runs + 1)
    ui.look("/assets/marts/csat_daily?view=partitions", "Materialized (", name="partitions")


def test_the_sensor_starts_a_run_after_something_changed(ui: Ui) -> None:
    runs = ui.runs()
    review = ui.sandbox.world.live("reviews")[-1]
    ui.sandbox.world.edit_review(review["id"], at=datetime.now(UTC) - timedelta(seconds=5), tags=["urgent"])
    started = ui.ask(
        "mutation ($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename } }",
        sensor={**ui.repository, "sensorName": "smileback_changes"},
    )["startSensor"]
    assert started["__typename"] == "Sensor"
    # It ticks at once, and then not for a quarter of an hour.
    [new] = until(lambda: set(ui.runs()) - set(runs))
    assert ui.outcome(new) == "SUCCESS"
    ui.look("/automation", "smileback_changes", name="automation")


def test_a_failing_check_is_seen_where_it_failed(ui: Ui) -> None:
    with contextlib.closing(duckdb.connect(ui.directory / "warehouse.duckdb")) as connection:
        connection.execute("update marts.nps_daily set count_promoters = count_promoters + 1")
    review = ui.sandbox.world.live("reviews")[-1]
    ui.sandbox.world.edit_review(review["id"], at=datetime.now(UTC), tags=["very urgent"])
    assert ui.outcome(ui.launch()) == "FAILURE"
    ui.look("/assets/marts/nps_daily?view=checks", "nps_daily_equals_its_facts", "Failed", name="checks")


def test_ending_it_ends_all_of_it(ui: Ui) -> None:
    ui.process.terminate()
    assert ui.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{ui.url}/server_info", trust_env=False)
    said = (ui.directory / "dev.log").read_text()
    assert f"{ui.url} has no login" in said
    assert "superseded" not in said
