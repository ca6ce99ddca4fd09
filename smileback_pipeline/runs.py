"""Running the sync job on the Dagster instance from this process, so that the UI's history has it."""

from __future__ import annotations

import contextlib
import io
import os
from datetime import date
from pathlib import Path

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.instance.ref import InstanceRef
from dagster._core.utils import make_new_run_id

from smileback_pipeline.assets.reporting import REPORTING, Reporter
from smileback_pipeline.automation.jobs import SYNC_JOB, UNRETRIED
from smileback_pipeline.automation.liveness import hold_run
from smileback_pipeline.automation.partitions import today
from smileback_pipeline.definitions import build_definitions
from smileback_pipeline.settings import PROJECT_ROOT, Settings


# What is written to this terminal is for whoever sits there. To copy it, Dagster would start four processes a step,
# which Ctrl-C reaches as well.
_UNCAPTURED = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


def open_instance() -> dg.DagsterInstance:
    """Return the instance of DAGSTER_HOME, or else that of this checkout's `dagster.yaml`."""
    home = Path(os.environ.get("DAGSTER_HOME") or PROJECT_ROOT).expanduser()
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_UNCAPTURED))


def run_sync(settings: Settings, reporter: Reporter, *, since: date | None, full: bool) -> str | None:
    """Run `smileback_sync` for today; return None if the marts are published, or what went wrong."""
    job = build_definitions(settings, reporter).resolve_job_def(SYNC_JOB)
    config = {"full": full} | ({"since": since.isoformat()} if since else {})
    # dbt's and Dagster's own chatter is kept in the run's log, where the UI shows it.
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
