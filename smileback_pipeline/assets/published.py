"""The analysts' file, published when the marts are built."""

from collections.abc import Iterator, Sequence

import dagster as dg

from smileback_pipeline.assets.resources import WarehouseResource
from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.replica.publishing import PublishingError, publish
from smileback_pipeline.replica.state import UNCHECKED, UNPUBLISHED, load_note, pending_days, save_note
from smileback_pipeline.settings import Settings

PUBLISHED = "published"
_NOTHING_PENDING = "nothing_pending"


def build_published_asset(settings: Settings, marts: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """The file that analysts and BI tools read, complete and of one moment."""

    key = dg.AssetKey([PUBLISHED, "analytics"])

    @dg.asset(
        key=key,
        deps=list(marts),
        group_name=PUBLISHED,
        kinds={"duckdb", "file"},
        description="The DuckDB file that analysts and BI tools read: replica and marts of one moment, swapped in "
        "atomically. Whoever has it open keeps the version they opened.",
        check_specs=[
            dg.AssetCheckSpec(
                _NOTHING_PENDING,
                asset=key,
                blocking=True,
                description="The marts are built and checked for all that the replica says; else nothing is published.",
            )
        ],
    )
    def analytics(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        with warehouse.get_connection() as connection:
            pending = pending_days(connection)
            unchecked = load_note(connection, UNCHECKED)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=_NOTHING_PENDING,
            passed=not pending and not unchecked,
            metadata={"pending_days": len(pending), "history_to_be_checked_because": unchecked or "it is checked"},
        )
        if pending or unchecked:
            why = f"the marts of {len(pending):,} days are behind the replica" if pending else f"{unchecked}"
            raise dg.Failure(
                f"Nothing was published, since {why}: run the job {SYNC_JOB}, which builds and checks what is due.",
                allow_retries=False,
            )
        try:
            size = publish(warehouse.warehouse, settings.analytics_path)
        except PublishingError as error:
            raise dg.Failure(str(error)) from None
        with warehouse.get_connection() as connection:
            save_note(connection, UNPUBLISHED, None)
        yield dg.MaterializeResult(
            asset_key=key, metadata={"path": dg.MetadataValue.path(settings.analytics_path), "size_bytes": size}
        )

    return analytics
