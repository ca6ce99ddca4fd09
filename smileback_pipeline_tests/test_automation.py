"""What runs by itself: when the sensor starts a run, what the schedules ask for, which runs are tried again, and what
becomes of runs that were killed. The tests of this module are one story and run in its order."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from smileback_pipeline.api.client import Patience, SmileBackClient
from smileback_pipeline.api.errors import AccessError, ApiError
from smileback_pipeline.assets.replica import REPLICA
from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.automation.liveness import WatchedRunLauncher, fail_dead_runs
from smileback_pipeline.automation.partitions import today
from smileback_pipeline.automation.retention import KEPT
from smileback_pipeline.definitions import build_definitions
from smileback_pipeline.endpoints import ENDPOINTS
from smileback_pipeline.runs import open_instance
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, delay, respond
from smileback_pipeline.settings import Settings, load_settings, validated_settings
from smileback_pipeline_tests.dagster_home import create_dagster_home

COMMAND = str(Path(sys.executable).with_name("smileback-pipeline"))
NAMES = [endpoint.path for endpoint in ENDPOINTS]
TOO_LONG = respond(429, {"detail": "Request was throttled."}, headers={"Retry-After": "700"})  # ends a run at once


@dataclass
class Account:
    sandbox: Sandbox
    settings: Settings
    instance: dg.DagsterInstance
    repository: dg.RepositoryDefinition

    def rate(self, review_id: int, *, age: timedelta = timedelta(0), rating: int = 1) -> None:
        """A customer rates, and SmileBack stamps it `age` ago."""
        stamp = (datetime.now(UTC) - age).isoformat().replace("+00:00", "Z")
        review = {"id": review_id, "rating": rating, "rated_on": stamp, "last_modified": stamp}
        self.sandbox.world.put("reviews", review)

    def tick(self) -> dg.SensorResult | Any:
        sensor = self.repository.get_sensor_def("smileback_changes")
        return sensor.evaluate_tick(dg.build_sensor_context(self.instance, repository_def=self.repository))

    def asked(self, action: Callable[[], Any]) -> tuple[Any, list[str]]:
        """What an action returns, and the lists that it asked for."""
        before = len(self.sandbox.requests)
        result = action()
        return result, [request.endpoint for request in self.sandbox.requests[before:] if request.endpoint in NAMES]

    def sync(self, **config: Any) -> None:
        result = self.run(**config)
        assert result.success

    def run(self, **config: Any) -> dg.ExecuteInProcessResult:
        """A run as the daemon launches it, without the marts, which take most of the time."""
        return self.repository.get_job(SYNC_JOB).execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey([REPLICA, endpoint.name]) for endpoint in ENDPOINTS],
            partition_key=today(self.settings),
            run_config={"ops": {"replicate": {"config": config}}},
            raise_on_error=False,
        )


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    directory = tmp_path_factory.mktemp("unattended")
    with running_sandbox(World.empty()) as sandbox, pytest.MonkeyPatch.context() as environment:
        variables = sandbox.environment() | {
            "SMILEBACK_DUCKDB_PATH": str(directory / "warehouse.duckdb"),
            "SMILEBACK_ANALYTICS_PATH": str(directory / "analytics.duckdb"),
            "SMILEBACK_TOKEN_PATH": str(directory / "tokens.json"),
            "SMILEBACK_START_DATE": "2026-01-01",
            "SMILEBACK_TIMEZONE": "Pacific/Auckland",
            "SMILEBACK_REQUESTS_PER_MINUTE": "0",
            "DAGSTER_HOME": str(create_dagster_home(directory)),
            "XDG_STATE_HOME": str(directory),
        }
        for name, value in variables.items():
            environment.setenv(name, value)
        settings = load_settings()
        repository = build_definitions(settings).get_repository_def()
        with open_instance() as instance:
            yield Account(sandbox, settings, instance, repository)


def test_everything_is_off_until_somebody_turns_it_on(account: Account) -> None:
    assert {sensor.name: sensor.default_status for sensor in account.repository.sensor_defs} == {
        "smileback_changes": dg.DefaultSensorStatus.STOPPED
    }
    assert {schedule.name: schedule.default_status for schedule in account.repository.schedule_defs} == {
        "daily_reread": dg.DefaultScheduleStatus.STOPPED,
        "weekly_reconcile": dg.DefaultScheduleStatus.STOPPED,
    }
    assert account.repository.get_sensor_def("smileback_changes").minimum_interval_seconds == 15 * 60


def test_the_first_tick_starts_the_first_run_for_today_in_the_reporting_time_zone(account: Account) -> None:
    account.rate(1, age=timedelta(minutes=20))
    tick, requests = account.asked(account.tick)
    [request] = tick.run_requests
    assert request.partition_key == datetime.now(account.settings.zone).date().isoformat()
    assert requests == ["reviews"]


def test_a_tick_with_nothing_new_costs_one_request_and_little_time(account: Account) -> None:
    account.sync()
    # Some pages have a stamp that the run's watermark, which trails the newest one, would find again.
    for _ in range(2):
        cpu_before = time.process_time()
        tick, requests = account.asked(account.tick)
        cpu_seconds = time.process_time() - cpu_before
        assert not tick.run_requests
        assert "Nothing has changed" in tick.skip_message
        assert requests == ["reviews"]
        assert cpu_seconds < 0.4  # the budget is 0.2, measured 0.05; the sandbox is in this process


def test_each_change_starts_a_run_however_many_the_day_has_had(account: Account) -> None:
    account.rate(2)
    first = account.tick()
    assert len(first.run_requests) == 1
    account.sync()
    assert not account.tick().run_requests
    account.rate(1, rating=-1)
    second = account.tick()
    assert len(second.run_requests) == 1
    # The daemon drops a run request whose key it has seen.
    assert first.run_requests[0].run_key is None
    assert second.run_requests[0].run_key is None
    account.sync()
    assert not account.tick().run_requests


def test_a_stamp_of_the_future_starts_no_run_and_hides_no_change(account: Account) -> None:
    account.rate(3, age=-timedelta(days=365))
    account.sync()
    assert not account.tick().run_requests
    account.rate(4)
    assert len(account.tick().run_requests) == 1
    account.sync()
    assert not account.tick().run_requests


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
def test_no_run_is_started_and_nothing_asked_while_one_is_queued_or_running(
    account: Account, status: dg.DagsterRunStatus
) -> None:
    account.rate(4)
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("smileback_pipeline"), "__repository__")
    origin = RemoteJobOrigin(location, "any")
    run = create_run_for_test(account.instance, job_name="any", status=status, remote_job_origin=origin)
    tick, requests = account.asked(account.tick)
    assert not tick.run_requests
    assert f"is {status.value.lower()}" in tick.skip_message
    assert requests == []
    account.instance.report_run_canceled(run)
    assert len(account.tick().run_requests) == 1


def test_a_poll_that_fails_fails_the_tick_with_the_servers_words_and_no_secret(account: Account) -> None:
    account.sandbox.faults.add("reviews", respond(503, {"detail": "Down for maintenance"}))
    with pytest.raises(ApiError, match="Down for maintenance"):
        account.tick()
    assert len(account.tick().run_requests) == 1

    account.settings.token_path.unlink()
    account.sandbox.faults.add("token", respond(400, {"error": "invalid_grant"}))
    with pytest.raises(AccessError) as refused:
        account.tick()
    assert account.sandbox.password not in str(refused.getrepr(showlocals=False))
    assert account.sandbox.client_secret not in str(refused.getrepr(showlocals=False))


def test_a_tick_does_not_wait_for_a_quota_that_others_use_up(account: Account) -> None:
    limited = account.settings.model_copy(update={"requests_per_minute": 1})
    sensor = build_definitions(limited).get_repository_def().get_sensor_def("smileback_changes")
    with SmileBackClient(limited) as client:
        client.fetch_page(ENDPOINTS[0], since=None, offset=0)
    began = time.monotonic()
    tick = sensor.evaluate_tick(dg.build_sensor_context(account.instance, repository_def=account.repository))
    assert time.monotonic() - began < 10
    assert not tick.run_requests
    assert "quota" in (tick.skip_message or "")


def test_the_daily_run_reads_a_month_again_and_the_weekly_one_everything(account: Account) -> None:
    # Also of a tick that is made up for days later, the day is one that the tick may know of.
    at = datetime(2026, 3, 8, 4, 10, tzinfo=account.settings.zone)

    def request(name: str) -> dg.RunRequest:
        context = dg.build_schedule_context(
            account.instance, scheduled_execution_time=at, repository_def=account.repository
        )
        tick = account.repository.get_schedule_def(name).evaluate_tick(context)
        [request] = tick.run_requests or []
        return request

    daily, weekly = request("daily_reread"), request("weekly_reconcile")
    assert daily.partition_key == weekly.partition_key == "2026-03-08"
    assert daily.run_config["ops"]["replicate"]["config"] == {"since": "2026-02-06"}
    assert weekly.run_config["ops"]["replicate"]["config"] == {"full": True}
    # What vanished without a trace is found by the weekly one, which also forgets old runs.
    account.sandbox.world.remove("reviews", 3)
    run = dg.DagsterRun(job_name=SYNC_JOB, run_id="old", status=dg.DagsterRunStatus.SUCCESS)
    account.instance.run_storage.add_historical_run(run, datetime.now(UTC) - KEPT - timedelta(days=1))
    account.sync(**daily.run_config["ops"]["replicate"]["config"])
    assert account.instance.has_run("old")
    account.sync(**weekly.run_config["ops"]["replicate"]["config"])
    reviews = account.instance.get_latest_materialization_event(dg.AssetKey(["replica", "reviews"]))
    assert reviews and reviews.asset_materialization
    assert reviews.asset_materialization.metadata["rows_deleted"].value == 1
    assert not account.instance.has_run("old")


def will_retry(account: Account, result: dg.ExecuteInProcessResult) -> bool:
    assert not result.success
    run = account.instance.get_run_by_id(result.run_id)
    assert run
    return run.tags["dagster/will_retry"] == "true"


def test_a_run_is_tried_again_when_the_reason_may_pass_and_not_when_it_stays(account: Account) -> None:
    account.sandbox.faults.add("nps-responses", TOO_LONG)
    assert will_retry(account, account.run())
    account.sandbox.faults.add("nps-responses", respond(403, {"detail": "Not yours"}))
    assert not will_retry(account, account.run())
    assert not will_retry(account, account.run(since="yesterday"))


def test_where_nothing_can_be_reached_no_other_list_is_tried(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = partial(SmileBackClient, patience=Patience(attempts=2, first_wait_seconds=0.01))
    monkeypatch.setattr("smileback_pipeline.assets.resources.SmileBackClient", hasty)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        settings = validated_settings(base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}/api")
    elsewhere = replace(account, settings=settings, repository=build_definitions(settings).get_repository_def())
    result = elsewhere.run()
    [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert list(failure.user_failure_data.metadata) == ["reviews"]
    assert "no whole answer from 127.0.0.1" in failure.user_failure_data.description
    assert will_retry(account, result)


def test_the_command_line_leaves_it_to_its_caller_to_try_again(account: Account) -> None:
    account.sandbox.faults.add("nps-responses", TOO_LONG)
    result = subprocess.run([COMMAND, "sync"], capture_output=True, text=True, timeout=240)
    assert result.returncode == 1
    assert "throttled" in result.stderr
    [run] = account.instance.get_runs(limit=1)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert run.tags["dagster/will_retry"] == "false"


def killed_sync(account: Account) -> dg.DagsterRun:
    """A run of the command line that was killed in the middle of a step."""
    before = {run.run_id for run in account.instance.get_runs()}
    asked = len(account.sandbox.requests)
    account.sandbox.faults.add("reviews", delay(600), times=FOREVER)
    process = subprocess.Popen([COMMAND, "sync"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(account.sandbox.requests) == asked:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    account.sandbox.faults.clear()
    [run] = [run for run in account.instance.get_runs() if run.run_id not in before]
    assert run.status == dg.DagsterRunStatus.STARTED
    assert account.instance.event_log_storage.get_concurrency_run_ids() == {run.run_id}
    age(account, run)
    return run


def age(account: Account, run: dg.DagsterRun) -> None:
    """Let the file of a run be too old to be about to be locked."""
    os.utime(Path(account.instance.storage_directory()) / "running" / run.run_id, (0, 0))


def assert_buried(account: Account, run: dg.DagsterRun) -> None:
    buried = account.instance.get_run_by_id(run.run_id)
    assert buried
    assert buried.status == dg.DagsterRunStatus.FAILURE
    assert account.instance.event_log_storage.get_concurrency_run_ids() == set()


def test_after_a_killed_sync_the_next_one_fails_it_and_takes_its_slot(account: Account) -> None:
    run = killed_sync(account)
    launcher = account.instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    assert launcher.check_run_worker_health(run).status.value == "FAILED"
    account.sync()
    assert_buried(account, run)


def test_after_a_killed_sync_the_sensor_goes_on(account: Account) -> None:
    run = killed_sync(account)
    account.rate(5)
    tick = account.tick()
    assert len(tick.run_requests) == 1
    assert_buried(account, run)


def test_a_run_that_lives_is_left_alone(account: Account) -> None:
    script = (
        "import sys, time, dagster as dg\n"
        "from smileback_pipeline.automation.liveness import hold_run\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    hold_run(instance, sys.argv[1])\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    run = create_run_for_test(account.instance, job_name="any", status=dg.DagsterRunStatus.STARTED)
    process = subprocess.Popen([sys.executable, "-c", script, run.run_id], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    age(account, run)
    launcher = account.instance.run_launcher
    try:
        fail_dead_runs(account.instance)
        assert launcher.check_run_worker_health(run).status.value == "RUNNING"
    finally:
        process.kill()
        process.wait()
    assert account.instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
    fail_dead_runs(account.instance)
    assert account.instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
