"""The sensor that asks SmileBack whether anything changed, and starts a run if so."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from smileback_pipeline.api.client import Patience, SmileBackClient
from smileback_pipeline.api.transport import Bounds
from smileback_pipeline.assets.replica import REPLICA
from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.automation.liveness import fail_dead_runs
from smileback_pipeline.automation.partitions import today
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.settings import Settings

# A tick has a minute; the next one asks again.
_PATIENCE = Patience(attempts=1, bounds=Bounds(silence_seconds=20, answer_seconds=20))
_LONGEST_WAIT_SECONDS = 15
_MOMENT = timedelta(microseconds=1)


class _QuotaUsedUpError(Exception):
    """Somebody else's requests come first."""


def build_change_sensor(settings: Settings) -> dg.SensorDefinition:
    """Starts a run when reviews changed after those that the last run saw.

    It asks for reviews alone, which come all day; responses and lists are read by each run that these start, and by
    the daily one. It knows what was seen by the materialization's metadata, since to open the file is to lock it.
    """

    @dg.sensor(
        name="smileback_changes",
        job_name=SYNC_JOB,
        minimum_interval_seconds=settings.sensor_minutes * 60,
        description="Asks SmileBack with one request whether reviews changed, and starts a run if so; none while one "
        "is running or queued.",
    )
    def smileback_changes(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        fail_dead_runs(context.instance)
        if unfinished := context.instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES), limit=1):
            [run] = unfinished
            return dg.SkipReason(f"Run {run.run_id[:8]} is {run.status.value.lower()}.")
        seen_until = _seen_until(context.instance, settings)
        now = datetime.now(UTC)
        try:
            with SmileBackClient(settings, patience=_PATIENCE, on_wait=_refuse_long_waits) as client:
                # One step further, since nobody has said whether `modified_since` means "at or after".
                page = client.fetch_page(REVIEWS, since=seen_until and seen_until + _MOMENT, offset=0)
        except _QuotaUsedUpError:
            return dg.SkipReason("Other requests of this customer use up the quota; the next tick asks again.")
        # A stamp of the future would count as new for ever.
        new = [stamp for stamp in page.stamps if stamp and (seen_until is None or seen_until < stamp) and stamp <= now]
        if seen_until and not new:
            return dg.SkipReason(f"Nothing has changed since {seen_until:%Y-%m-%d %H:%M:%S} UTC.")
        context.log.info(f"{len(new)} reviews changed." if seen_until else "Nothing has been replicated yet.")
        # Without a run key, since each change deserves a run, however many the day has had.
        return dg.RunRequest(partition_key=today(settings))

    return smileback_changes


def _seen_until(instance: dg.DagsterInstance, settings: Settings) -> datetime | None:
    """The newest change of a review that is in the replica; None if there is no replica."""
    event = instance.get_latest_materialization_event(dg.AssetKey([REPLICA, REVIEWS.name]))
    if not event or not event.asset_materialization or not settings.duckdb_path.exists():
        return None
    watermark = event.asset_materialization.metadata.get("watermark")
    if not isinstance(watermark, dg.TimestampMetadataValue):
        return None
    return datetime.fromtimestamp(watermark.value, UTC) + settings.lookback


def _refuse_long_waits(seconds: float) -> None:
    if seconds > _LONGEST_WAIT_SECONDS:
        raise _QuotaUsedUpError
