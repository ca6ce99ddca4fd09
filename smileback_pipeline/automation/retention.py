"""How long the history of runs is kept: one run each quarter of an hour is 25 GB a year, and Dagster keeps all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

KEPT = timedelta(days=30)
"""At a run each quarter of an hour these are 2 GB."""
_EVENTS_AT_ONCE = 500


def forget_runs(instance: dg.DagsterInstance, *, created_before: datetime) -> int:
    """Delete finished runs with their logs and events; return how many.

    Those stay that built something last: without its newest materialization a day would look as if it never was built.
    """
    old = instance.get_run_ids(dg.RunsFilter(statuses=list(FINISHED_STATUSES), created_before=created_before))
    forgotten = set(old) - set(_built_last(instance)) if old else set()
    for run_id in forgotten:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
    return len(forgotten)


def _built_last(instance: dg.DagsterInstance) -> Iterator[str]:
    """The runs that the newest materialization of an asset, or of a day of it, is from."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for key in instance.get_asset_keys():
        if newest := instance.get_latest_materialization_event(key):
            yield newest.run_id
        ids = list(instance.event_log_storage.get_latest_storage_id_by_partition(key, kind).values())
        for start in range(0, len(ids), _EVENTS_AT_ONCE):
            chosen = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[start : start + _EVENTS_AT_ONCE])
            for record in instance.fetch_materializations(chosen, limit=_EVENTS_AT_ONCE).records:
                yield record.run_id
