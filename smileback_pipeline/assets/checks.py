"""How old things may become, and the checks of the replica; the checks of the marts are the tests of the dbt project.

The checks of the replica warn and block nothing: the scores are right for all records that can be right, and the
others are counted here.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from smileback_pipeline.assets.metadata import preview
from smileback_pipeline.endpoints import Endpoint
from smileback_pipeline.replica.summary import Summary
from smileback_pipeline.replication import Tally
from smileback_pipeline.settings import Settings

# Synced once a day at least, which each sync shows on all of the replica.
REPLICA_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
# Built when something changed, and with the full sync of each week.
MARTS_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=15), warn_window=timedelta(days=8))

_NOTHING_SET_ASIDE = "nothing_set_aside"
_COUNT_EQUALS_SMILEBACK = "count_equals_smileback"
_DAYS_HAVE_PARTITIONS = "days_have_partitions"


def replica_check_specs(endpoint: Endpoint, asset: dg.AssetKey) -> Iterator[dg.AssetCheckSpec]:
    """The checks of the replica of an endpoint."""
    yield dg.AssetCheckSpec(
        _NOTHING_SET_ASIDE, asset=asset, description="No record that SmileBack has sent had to be set aside."
    )
    when = (
        "Known only when everything is read (a full sync); skipped when only changes are."
        if endpoint.filter
        else "The list is read whole at each sync."
    )
    yield dg.AssetCheckSpec(
        _COUNT_EQUALS_SMILEBACK,
        asset=asset,
        description=f"The replica accounts for as many records as SmileBack says that it has. {when}",
    )
    if endpoint.day_stamps:
        yield dg.AssetCheckSpec(
            _DAYS_HAVE_PARTITIONS, asset=asset, description="Nothing in it is older than SMILEBACK_START_DATE."
        )


def replica_check_results(
    asset: dg.AssetKey, settings: Settings, summary: Summary, tally: Tally | None
) -> Iterator[dg.AssetCheckResult]:
    """Judge the replica of an endpoint; without a tally its count is left alone."""
    yield _nothing_set_aside(asset, settings, summary)
    if tally:
        yield _count_equals_smileback(asset, tally)
    if summary.endpoint.day_stamps:
        yield _days_have_partitions(asset, settings, summary)


def _nothing_set_aside(asset: dg.AssetKey, settings: Settings, summary: Summary) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"records": summary.rejected}
    if summary.rejections:
        metadata["reasons"] = preview(vars(rejection) for rejection in summary.rejections)
    return _warning(
        asset,
        _NOTHING_SET_ASIDE,
        not summary.rejections,
        metadata,
        f"{summary.rejected:,} records cannot be right, so they count nowhere. They are in replica.rejected_records of "
        f"{settings.duckdb_path} with the reason; correct them in SmileBack, and the next sync takes them in.",
    )


def _count_equals_smileback(asset: dg.AssetKey, tally: Tally) -> dg.AssetCheckResult:
    return _warning(
        asset,
        _COUNT_EQUALS_SMILEBACK,
        tally.is_explained,
        vars(tally),
        f"SmileBack says that it has {tally.listed:,} records, but the replica accounts for {tally.accounted_for:,}: "
        f"{tally.rows:,} rows, {tally.set_aside:,} set aside and {tally.deleted:,} deleted. Sync with --full; if they "
        "differ again, SmileBack's list shows a record twice or not at all.",
    )


def _days_have_partitions(asset: dg.AssetKey, settings: Settings, summary: Summary) -> dg.AssetCheckResult:
    earliest = summary.earliest and summary.earliest.astimezone(settings.zone).date()
    metadata: dict[str, Any] = {"records": summary.early, "start_date": settings.start_date.isoformat()}
    if earliest:
        metadata["earliest"] = earliest.isoformat()
    return _warning(
        asset,
        _DAYS_HAVE_PARTITIONS,
        not summary.early,
        metadata,
        f"{summary.early:,} records are of days from {earliest} on, before SMILEBACK_START_DATE "
        f"({settings.start_date}). They count in every score, but their days have no partition here: set "
        f"SMILEBACK_START_DATE={earliest}.",
    )


def _warning(
    asset: dg.AssetKey, name: str, passed: bool, metadata: Mapping[str, Any], otherwise: str
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if passed else otherwise,
        metadata=metadata,
    )
