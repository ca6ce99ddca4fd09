"""The job that the command line, the UI, the sensor and the schedules all run, and when a run of it is tried again."""

from __future__ import annotations

import dagster as dg

SYNC_JOB = "smileback_sync"

RETRIED = {"dagster/retry_on_asset_or_op_failure": "true"}
"""Tag of a run that failed for a reason which may pass. By `dagster.yaml` only runs that died are tried again else."""
UNRETRIED = {"dagster/max_retries": "0"}


def build_sync_job() -> dg.UnresolvedAssetJobDefinition:
    """Replicate what changed, rebuild the days that it touched, publish. For today's partition."""
    return dg.define_asset_job(
        SYNC_JOB,
        selection=dg.AssetSelection.all(),
        description="Replicates what changed in SmileBack, rebuilds the days that it touched and publishes the "
        "analysts' file. Run it for today; with nothing new it rebuilds and publishes nothing.",
        # All of it, which costs nine requests; what the failed run has read is not read again.
        run_tags={"dagster/retry_strategy": "ALL_STEPS"},
    )
