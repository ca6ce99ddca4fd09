"""Whole syncs that are killed, told to stop, refused, run at once or out of room: what is there afterwards is whole.

As a user runs them: the command line as a process, with Dagster, dbt and the published file. `KILLS=50` makes the
kills fifty. The tests of this module are one story and run in its order.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.execution.plan.objects import UserFailureData
from dbt.cli.main import dbtRunnerResult

from smileback_pipeline.assets.dbt import run_dbt
from smileback_pipeline.sandbox import ENDPOINTS, World, running_sandbox
from smileback_pipeline.sandbox.faults import call, delay, respond
from smileback_pipeline.settings import PROJECT_ROOT
from smileback_pipeline_tests.dagster_home import create_dagster_home
from smileback_pipeline_tests.mirror import assert_nothing_is_missing_below_the_watermark, assert_replica_equals, query
from smileback_pipeline_tests.test_machine import fill, held, small_disk
from smileback_pipeline_tests.test_replication import NOW, put_response, put_review, wire
from smileback_pipeline_tests.test_sync import COMMAND, Account

__all__ = ["small_disk"]

KILLS = int(os.environ.get("KILLS", "3"))
DAY = timedelta(days=1)


def small_world() -> World:
    """An account of ten days with something of everything."""
    world = World.empty(now=NOW)
    for number in range(1, 121):
        put_review(world, number, NOW - DAY - number * timedelta(hours=2))
    for number in range(1, 61):
        put_response(world, number, NOW - DAY - number * timedelta(hours=4))
        world.put("csat-contacts", {"id": str(number), "name": f"Contact {number}"})
    for number in range(1, 21):
        ratings = [{"question": "Budget", "rating": number % 5 + 1, "seq_number": 1}]
        response = {"id": f"p-{number}", "ratings": ratings, "survey_name": "Close-out"}
        response["date"] = wire(NOW - DAY - number * timedelta(hours=12))
        world.put("prj-responses", {"response": response, "contact": {}})
    return world


def change(world: World, rng: random.Random) -> None:
    """What happens at a customer's between two runs."""
    with world.lock:
        world.advance(to=world.now + timedelta(seconds=10))
        world.edit_review(rng.randint(1, 60), rating=rng.choice([1, 0, -1]), comment=f"edited at {world.now}")
        world.edit_review(rng.randint(61, 120), status=rng.choice(["deleted", "open"]))
        put_review(world, rng.randint(1000, 9999), world.now)
        put_response(world, rng.randint(1000, 9999), world.now)
        world.remove("csat-contacts", rng.choice(sorted(world.tables["csat-contacts"].by_key)))


class Machine(Account):
    """An account whose syncs can be watched and ended."""

    @property
    def file(self) -> Path:
        return Path(self.environment()["SMILEBACK_DUCKDB_PATH"])

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A sync, unless it is something else, in a process group of its own."""
        return subprocess.Popen(
            command or [COMMAND, "sync"],
            env=self.environment(PYTHONUNBUFFERED="1"),
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def answers(self) -> list[object]:
        """What analysts read."""
        return [
            self.query("select id, comment, rating from replica.reviews order by id"),
            self.query("select * from marts.csat_daily order by all"),
            self.query("select * from marts.scores order by all"),
        ]

    def assert_whole(self) -> None:
        """Replica and marts are those of a recomputation from scratch, and Dagster has no run that never ended."""
        assert_replica_equals(self.sandbox.world, self.file)
        assert_replica_equals(self.sandbox.world, self.published, is_published=True)
        self.assert_published_equals_server()
        assert {run.status for run in self.runs()} <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
        with self.instance() as instance:
            assert instance.event_log_storage.get_concurrency_run_ids() == set()

    @contextlib.contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(self.environment()["DAGSTER_HOME"]) as instance:
            yield instance

    def runs(self) -> list[dg.DagsterRun]:
        """The newest one first."""
        with self.instance() as instance:
            return list(instance.get_runs())

    def failure(self) -> UserFailureData:
        """What the newest run says of the step that failed."""
        with self.instance() as instance:
            failed = instance.all_logs(self.runs()[0].run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        failure = failed[0].get_dagster_event().step_failure_data.user_failure_data
        assert failure
        return failure


def up_to(process: subprocess.Popen[str], words: str) -> str:
    """What a process has printed when it comes to certain words, or to its end."""
    printed = ""
    assert process.stdout
    for line in process.stdout:
        printed += line
        if words in line:
            break
    return printed


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("msp")
    create_dagster_home(directory)
    with running_sandbox(small_world(), max_limit=20) as sandbox:
        machine = Machine(sandbox, directory, {"SMILEBACK_START_DATE": (NOW - 20 * DAY).date().isoformat()})
        machine.sync()
        machine.assert_whole()
        yield machine


@pytest.fixture(autouse=True)
def faults_end_with_their_test(machine: Machine) -> Iterator[None]:
    yield
    machine.sandbox.faults.clear()


# Killed


@pytest.mark.timeout(60 + 60 * KILLS)
def test_a_sync_killed_at_any_moment_is_repaired_by_the_next_one(machine: Machine) -> None:
    """Amid requests and commits, amid dbt, amid publishing; the main process alone or all of them at once."""
    rng = random.Random(os.environ.get("KILLS_SEED", "1"))
    moments = [amid_requests, amid_dbt, amid_publishing]
    for number in range(KILLS):
        change(machine.sandbox.world, rng)
        before, inode = machine.answers(), machine.published.stat().st_ino
        process = machine.start()
        moments[number % len(moments)](machine, process, rng)
        if is_all_of_it := rng.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        if process.returncode and machine.published.stat().st_ino == inode:
            assert machine.answers() == before
        else:
            machine.assert_published_equals_server()
        if is_all_of_it:
            # Else dbt may be at work yet, which the next sync has to cope with.
            assert_nothing_is_missing_below_the_watermark(machine.sandbox.world, machine.file)
        machine.sync()
        machine.assert_whole()
        killed = machine.runs()[1]
        assert killed.status == (dg.DagsterRunStatus.FAILURE if process.returncode else dg.DagsterRunStatus.SUCCESS)
    assert not list(machine.directory.glob(".analytics*")), "a killed publication left something behind"


def amid_requests(machine: Machine, process: subprocess.Popen[str], rng: random.Random) -> None:
    reached = threading.Event()
    machine.sandbox.faults.add("*", call(lambda sandbox: reached.set()), after=rng.randint(0, 8))
    assert reached.wait(60)
    machine.sandbox.faults.clear()
    end_within(process, rng.choice([0, 0.01, 0.1, 0.5]))


def amid_dbt(machine: Machine, process: subprocess.Popen[str], rng: random.Random) -> None:
    assert "rebuilding" in up_to(process, "rebuilding")
    end_within(process, rng.uniform(0, 6))


def amid_publishing(machine: Machine, process: subprocess.Popen[str], rng: random.Random) -> None:
    while process.poll() is None and not list(machine.directory.glob(".analytics.duckdb.*")):
        end_within(process, 0.001)
    end_within(process, rng.uniform(0, 0.3))


def end_within(process: subprocess.Popen[str], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


# Told to stop


def test_a_sync_that_is_told_to_stop_amid_requests_says_so_and_the_next_one_goes_on_there(machine: Machine) -> None:
    world = machine.sandbox.world
    change(world, random.Random(5))
    for review in range(20_000, 20_100):
        put_review(world, review, world.now + (review - 20_000) * timedelta(milliseconds=1))
    # The fifth page never comes; those before it are committed after a moment.
    machine.sandbox.faults.add("reviews", delay(60), after=4)
    before, process = machine.answers(), machine.start()
    while not is_under_way(machine.file):
        end_within(process, 0.1)
        assert process.returncode is None
    # As Ctrl-C in a terminal does: whatever the sync has started is told as well.
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate()
    machine.sandbox.faults.clear()
    assert_interrupted(machine, process, printed)
    assert machine.answers() == before
    assert_nothing_is_missing_below_the_watermark(world, machine.file)
    assert "went on at" in machine.sync()
    machine.assert_whole()


def is_under_way(file: Path) -> bool:
    """Whether a walk has kept where it is."""
    with contextlib.suppress(duckdb.IOException):  # the sync is writing
        return query(file, "select count(*) from replica.sync_state where walk_from is not null") != [(0,)]
    return False


def test_an_interruption_that_dbt_takes_for_a_failure_of_its_own_is_still_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What dbt says if it is interrupted while it opens a connection, a moment that cannot be chosen."""

    class Runner:
        def __init__(self, manifest: Any, callbacks: Any) -> None: ...

        def invoke(self, arguments: list[str]) -> dbtRunnerResult:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return dbtRunnerResult(success=False, exception=ConnectionError("Connection already closed!"))

    monkeypatch.setattr("dbt.cli.main.dbtRunner", Runner)
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        run_dbt(["build"], tmp_path)


def assert_interrupted(machine: Machine, process: subprocess.Popen[str], printed: str) -> None:
    assert process.returncode == 1
    assert "dagster" not in printed
    assert printed.splitlines()[-1] == (
        "Error: The sync was interrupted. What it has saved is kept, and the next one goes on from there."
    )
    assert "Traceback" not in printed
    assert machine.runs()[0].status == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_sync_that_is_told_to_stop_amid_dbt_ends_at_once(machine: Machine, seconds: float) -> None:
    change(machine.sandbox.world, random.Random(6))
    before, process = machine.answers(), machine.start()
    printed = up_to(process, "rebuilding")
    while not is_in_use(machine.file):
        assert process.poll() is None
    end_within(process, seconds)
    assert is_in_use(machine.file)
    os.killpg(process.pid, signal.SIGTERM)
    printed += process.communicate()[0]
    assert_interrupted(machine, process, printed)
    assert machine.answers() == before
    assert not is_in_use(machine.file)
    machine.sync()
    machine.assert_whole()


def is_in_use(file: Path) -> bool:
    """Whether another process has the file open."""
    with contextlib.suppress(duckdb.IOException), contextlib.closing(duckdb.connect(file, read_only=True)):
        return False
    return True


def test_a_sync_that_waits_for_another_says_so_and_can_be_told_to_stop(machine: Machine) -> None:
    asked = threading.Event()
    machine.sandbox.faults.add("reviews", call(lambda sandbox: asked.set()))
    machine.sandbox.faults.add("reviews", delay(60))
    first = machine.start()
    assert asked.wait(60)
    second = machine.start()
    assert f"Another run is using {machine.file}" in up_to(second, "Another run")
    second.send_signal(signal.SIGTERM)
    assert_interrupted(machine, second, second.communicate()[0])
    first.send_signal(signal.SIGTERM)
    assert_interrupted(machine, first, first.communicate()[0])
    assert {run.status for run in machine.runs()[:2]} == {dg.DagsterRunStatus.FAILURE}


# Refused


def test_one_list_that_is_refused_stops_no_other_and_the_next_sync_repairs_all(machine: Machine) -> None:
    change(machine.sandbox.world, random.Random(7))
    before = machine.answers()
    machine.sandbox.faults.add("reviews", respond(403, {"detail": "Reviews are not for you."}))
    asked = len(machine.sandbox.requests)
    result = machine.run("sync")
    assert result.returncode == 1
    words = r"Error: reviews: Reading reviews at offset 0 .*: SmileBack answered HTTP 403: .*Reviews are not for you\."
    assert re.search(words, result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert sorted({request.endpoint for request in machine.sandbox.requests[asked:]} - {"token"}) == sorted(ENDPOINTS)
    [new] = machine.sandbox.world.live("nps-responses")[-1:]
    assert query(machine.file, f"select count(*) from replica.nps_responses where id = {new['id']}") == [(1,)]
    failed = machine.runs()[0]
    assert failed.status == dg.DagsterRunStatus.FAILURE
    with machine.instance() as instance:
        told = [str(log.dagster_event) for log in instance.all_logs(failed.run_id, dg.DagsterEventType.STEP_FAILURE)]
    assert any("HTTP 403" in event and "Reviews are not for you." in event for event in told)
    assert machine.answers() == before
    machine.sync()
    machine.assert_whole()


# At once


@pytest.mark.timeout(300)
def test_two_syncs_and_a_backfill_at_once_come_one_after_the_other(machine: Machine) -> None:
    change(machine.sandbox.world, random.Random(8))
    first_day, last_day = ((NOW - days * DAY).date().isoformat() for days in (5, 2))
    marts = ",".join(f"key:marts/{mart}" for mart in ("csat_daily", "csat_response_daily", "nps_daily"))
    backfill = ["asset", "materialize", "-m", "smileback_pipeline.definitions", "--select", marts]
    dagster = str(Path(sys.executable).with_name("dagster"))
    processes = [
        machine.start(),
        machine.start(),
        machine.start(dagster, *backfill, "--partition-range", f"{first_day}...{last_day}"),
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], printed
    machine.assert_whole()
    with machine.instance() as instance:
        runs = [instance.get_run_step_stats(run.run_id) for run in machine.runs()[:3]]
    times = [[time for step in run for time in (step.start_time, step.end_time) if time] for run in runs]
    spans = sorted((min(run), max(run)) for run in times)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


# Somebody else has the file open


def test_a_file_that_somebody_has_open_is_waited_for_with_a_line_on_the_terminal(machine: Machine) -> None:
    with held(machine.file) as holder:
        process = machine.start()
        printed = up_to(process, "another program has it open")
    printed += process.communicate()[0]
    assert f"PID {holder.pid}" in printed
    assert process.returncode == 0, printed
    assert "dagster" not in printed
    machine.assert_whole()


def test_a_sync_that_is_told_to_stop_does_not_wait_for_who_has_the_file_open(machine: Machine) -> None:
    world, asked = machine.sandbox.world, threading.Event()
    for review in range(30_000, 30_100):
        put_review(world, review, world.now + (review - 30_000) * timedelta(milliseconds=1))
    # The fifth page never comes; those before it cannot be committed.
    machine.sandbox.faults.add("reviews", call(lambda sandbox: asked.set()), after=3)
    machine.sandbox.faults.add("reviews", delay(60), after=4)
    process = machine.start()
    assert asked.wait(60)
    with held(machine.file):
        printed = up_to(process, "another program has it open")
        process.send_signal(signal.SIGTERM)
        # It is waited for for a minute otherwise.
        printed += process.communicate(timeout=30)[0]
    machine.sandbox.faults.clear()
    assert_interrupted(machine, process, printed)
    machine.sync()
    machine.assert_whole()


# The disk is full


def test_a_disk_that_is_full_when_the_marts_are_built_changes_nothing_that_is_published(
    machine: Machine, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(machine.sandbox.world, random.Random(10))
    moved = small_disk / "warehouse.duckdb"
    moved.write_bytes(machine.file.read_bytes())
    monkeypatch.setitem(machine.variables, "SMILEBACK_DUCKDB_PATH", str(moved))
    before, process = machine.answers(), machine.start()
    printed = up_to(process, "rebuilding")
    stuffing = fill(small_disk, leaving=0)
    printed += process.communicate()[0]
    assert process.returncode == 1, printed
    where = r"The run's log in Dagster's UI has all that dbt said of them\."
    assert re.fullmatch(rf"Error: dbt failed at .*No space left on device.* {where}", printed.splitlines()[-1])
    assert "No space left on device" in str(machine.failure().metadata)
    assert machine.runs()[0].status == dg.DagsterRunStatus.FAILURE
    assert machine.answers() == before
    assert_nothing_is_missing_below_the_watermark(machine.sandbox.world, moved)
    stuffing.unlink()
    machine.sync()
    machine.assert_whole()
