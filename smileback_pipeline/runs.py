"""Running the sync job on the Dagster instance from this process, so that the UI's history has it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.utils import make_new_run_id
from dagster._serdes import ConfigurableClassData

from smileback_pipeline.assets.reporting import REPORTING, Reporter
from smileback_pipeline.automation.jobs import SYNC_JOB, UNRETRIED
from smileback_pipeline.automation.liveness import hold_run
from smileback_pipeline.automation.partitions import today
from smileback_pipeline.definitions import build_definitions
from smileback_pipeline.settings import PROJECT_ROOT, Settings


class UncapturedLogManager(LocalComputeLogManager):
    """The files of what other runs print; what this process prints is for whoever sits at the terminal.

    To copy it, Dagster would start four processes, which Ctrl-C in the terminal reaches as well.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> UncapturedLogManager:
        """See ConfigurableClass; the inherited method makes its own class."""
        return cls(inst_data=inst_data, **config_value)

    @contextlib.contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Capture nothing."""
        yield CapturedLogContext(log_key)


def open_instance() -> dg.DagsterInstance:
    """Return the instance of DAGSTER_HOME, or else that of this checkout's `dagster.yaml`; it captures no output."""
    ref = InstanceRef.from_dir(str(Path(os.environ.get("DAGSTER_HOME") or PROJECT_ROOT).expanduser()))
    logs = ref.compute_logs_data
    if logs.class_name == LocalComputeLogManager.__name__:
        quiet = logs._replace(module_name=__name__, class_name=UncapturedLogManager.__name__)
        ref = ref._replace(compute_logs_data=quiet)
    return dg.DagsterInstance.from_ref(ref)


def run_sync(settings: Settings, reporter: Reporter, *, since: date | None, full: bool) -> str | None:
    """Run `smileback_sync` for today; return None if the marts are published, or what went wrong."""
    job = build_definitions(settings, reporter).resolve_job_def(SYNC_JOB)
    config = {"full": full} | ({"since": since.isoformat()} if since else {})
    # What became of each model and test is in the run's log; what dbt prints besides is not for whoever waits here.
    with open_instance() as instance, contextlib.redirect_stdout(io.StringIO()):
        run_id = make_new_run_id()
        hold_run(instance, run_id)
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            # The daemon could not start it again; whoever started this process can.
            tags=UNRETRIED,
            partition_key=today(settings),
            run_config={"ops": {"replicate": {"config": config}}, "loggers": {REPORTING: {}}},
            raise_on_error=False,
        )
    if result.success:
        return None
    return "\n".join(_failures(result)) or "The run failed; the UI shows its log."


def _failures(result: dg.ExecuteInProcessResult) -> list[str]:
    if result.get_run_failure_event().job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION:
        return ["The sync was interrupted. What it has saved is kept, and the next one goes on from there."]
    messages = []
    for event in result.all_events:
        if event.is_resource_init_failure:
            error = event.engine_event_data.error
            assert error
            messages.append(error.message.partition(f"{error.cls_name}: ")[2].strip())
        elif event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                messages.append(data.user_failure_data.description)
            elif data.error and not data.error.message.startswith("dagster._core.errors.DagsterExecutionStepNotFound"):
                cause = data.error.cause or data.error
                messages.append(cause.message.strip())
    return messages
