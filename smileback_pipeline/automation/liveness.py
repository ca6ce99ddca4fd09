"""Which runs are alive: the process of a run holds a lock, which the operating system takes back however it ends.

Dagster's own launcher notices that a run died only while the process that started it lives. After a power cut or
`kill -9`, and for runs of the command line, a run would be shown as started for ever, and would keep its slot in the
pool. `dagster.yaml` selects the launcher here, which lets the daemon's run monitoring notice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import filelock
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

# Between the creation of a file and its locking.
_SECONDS_TO_LOCK = 1


def hold_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Show that the run is alive for as long as this process is."""
    # A singleton, since the command line holds a run before the run itself does; Dagster sees neither of them end.
    lock = filelock.FileLock(_directory(instance) / run_id, is_singleton=True, thread_local=False)
    lock.acquire()
    _held.append(lock)


def fail_dead_runs(instance: dg.DagsterInstance) -> None:
    """Report as failed what dead processes left unfinished, and free the slots that they held."""
    for path in _directory(instance).iterdir():
        with _taken_over(path) as is_dead:
            if not is_dead:
                continue
            run = instance.get_run_by_id(path.name)
            if run and not run.is_finished:
                instance.report_run_failed(run, "The process of this run is gone: it was killed, or the machine was.")
            path.unlink()
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches runs as DefaultRunLauncher does, and can tell whether one is alive, whoever started it."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """See RunLauncher."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """See RunLauncher. A run that never had a lock, or not yet, is not known to be dead."""
        with _taken_over(_directory(self._instance) / run.run_id) as is_dead:
            return (
                CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")
                if is_dead
                else CheckRunHealthResult(WorkerStatus.RUNNING)
            )


_held: list[filelock.BaseFileLock] = []


def _directory(instance: dg.DagsterInstance) -> Path:
    directory = Path(instance.storage_directory()).resolve() / "running"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextlib.contextmanager
def _taken_over(path: Path) -> Iterator[bool]:
    """Whether the process that held the lock is gone; nobody else finds it so meanwhile."""
    try:
        is_settled = time.time() - path.stat().st_mtime > _SECONDS_TO_LOCK
    except FileNotFoundError:
        is_settled = False
    if not is_settled:
        yield False
        return
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
