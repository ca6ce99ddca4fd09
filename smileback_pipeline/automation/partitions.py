"""The daily partitions of the marts, cut in the reporting time zone."""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from smileback_pipeline.settings import Settings


def build_daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Days from the start date up to and including today, which fills up while it lasts."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.start_date.isoformat(), timezone=settings.timezone, end_offset=1
    )


def today(settings: Settings) -> str:
    """The partition that each run of the sync job is started for."""
    return datetime.now(settings.zone).date().isoformat()
