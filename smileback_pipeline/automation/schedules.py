"""What runs every day and every week, whether or not anything is known to have changed."""

from datetime import date, timedelta

import dagster as dg

from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.settings import Settings

REREAD = timedelta(days=30)
"""How much of the recent past is read again every day, for changes that became visible late."""


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """The daily run and the weekly one, at night in the reporting time zone, after the hours that clocks skip."""

    @dg.schedule(
        name="daily_reread",
        job_name=SYNC_JOB,
        cron_schedule="10 4 * * *",
        execution_timezone=settings.timezone,
        description=f"Reads the changes of the last {REREAD.days} days again, whatever the sensor has seen.",
    )
    def daily_reread(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return _run(_day(context), since=(_day(context) - REREAD).isoformat())

    @dg.schedule(
        name="weekly_reconcile",
        job_name=SYNC_JOB,
        cron_schedule="10 5 * * 0",
        execution_timezone=settings.timezone,
        description="Reads everything again, corrects what differs and removes what vanished without a trace.",
    )
    def weekly_reconcile(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return _run(_day(context), full=True)

    return [daily_reread, weekly_reconcile]


def _day(context: dg.ScheduleEvaluationContext) -> date:
    # Not today: a tick that was missed and is made up for may not know of later days.
    return context.scheduled_execution_time.date()


def _run(day: date, **config: object) -> dg.RunRequest:
    return dg.RunRequest(partition_key=day.isoformat(), run_config={"ops": {"replicate": {"config": config}}})
