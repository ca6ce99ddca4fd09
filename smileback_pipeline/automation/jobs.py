"""The job that the command line, the UI, sensors and schedules all run."""

from __future__ import annotations

import dagster as dg

SYNC_JOB = "smileback_sync"


def build_sync_job() -> dg.UnresolvedAssetJobDefinition:
    """Replicate what changed, rebuild the days that it touched, publish. For today's partition."""
    return dg.define_asset_job(
        SYNC_JOB,
        selection=dg.AssetSelection.all(),
        description="Replicates what changed in SmileBack, rebuilds the days that it touched and publishes the "
        "analysts' file. Run it for today; with nothing new it rebuilds and publishes nothing.",
    )
