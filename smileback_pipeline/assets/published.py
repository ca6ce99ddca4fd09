"""What people open: the analysts' file, published when the marts are built, and the scorecard that is made of it."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg
import duckdb

from smileback_pipeline.assets.metadata import OWNERS
from smileback_pipeline.assets.resources import WAREHOUSE_POOL, WarehouseResource
from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.replica.privacy import privacy_of
from smileback_pipeline.replica.publishing import PublishingError, publish, replacing
from smileback_pipeline.replica.state import PUBLISHED_WITH, UNCHECKED, UNPUBLISHED, load_note, pending_days, save_note
from smileback_pipeline.settings import Settings

PUBLISHED = "published"
_NOTHING_PENDING = "nothing_pending"
_SCORECARD_DUE = "scorecard to be written"


def build_published_asset(settings: Settings, marts: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """The file that analysts and BI tools read, complete and of one moment."""

    key = dg.AssetKey([PUBLISHED, "analytics"])

    @dg.asset(
        key=key,
        deps=list(marts),
        group_name=PUBLISHED,
        owners=OWNERS,
        kinds={"duckdb", "file"},
        pool=WAREHOUSE_POOL,
        description="The DuckDB file that analysts and BI tools read: replica and marts of one moment, swapped in "
        "atomically. Whoever has it open keeps the version they opened.",
        check_specs=[
            dg.AssetCheckSpec(
                _NOTHING_PENDING,
                asset=key,
                # What comes after is stopped by the failure; as a blocking check, Dagster would warn of quiet runs.
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
        privacy = privacy_of(settings)
        try:
            size = publish(warehouse.warehouse, settings.analytics_path, privacy)
        except PublishingError as error:
            raise dg.Failure(str(error)) from None
        with warehouse.get_connection() as connection:
            save_note(connection, PUBLISHED_WITH, privacy.fingerprint)
            # A run that ends here leaves the page to the next one.
            save_note(connection, UNPUBLISHED, _SCORECARD_DUE)
        yield dg.MaterializeResult(
            asset_key=key, metadata={"path": dg.MetadataValue.path(settings.analytics_path), "size_bytes": size}
        )

    return analytics


def build_scorecard_asset(settings: Settings) -> dg.AssetsDefinition:
    """The scores as one page for those who open a browser rather than a database."""
    target = settings.scorecard_path

    @dg.asset(
        key=[PUBLISHED, "scorecard"],
        owners=OWNERS,
        deps=[dg.AssetKey([PUBLISHED, "analytics"])],
        group_name=PUBLISHED,
        kinds={"html", "file"},
        description="One HTML page made from the published file: scores with their intervals and trends, agents, "
        "companies, the latest negative comments. It needs no network, can be mailed and printed.",
    )
    def scorecard(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        # Imported here: templates and pictures are no concern of those who load the definitions.
        from smileback_pipeline.scorecard.page import render_scorecard

        try:
            page = render_scorecard(settings.analytics_path, datetime.now(settings.zone))
            with replacing(target) as new:
                new.write_text(page, encoding="utf-8")
        except (OSError, duckdb.Error) as error:
            raise dg.Failure(
                f"Writing the scorecard to {target} failed ({str(error).splitlines()[0]}). The analysts' file is "
                "published. Make room or mend the path, and sync again."
            ) from None
        with warehouse.get_connection() as connection:
            # Somebody can ask for the page alone, while changes are waiting.
            if load_note(connection, UNPUBLISHED) == _SCORECARD_DUE:
                save_note(connection, UNPUBLISHED, None)
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(target),
                "url": dg.MetadataValue.url(target.as_uri()),
                "size_bytes": target.stat().st_size,
            }
        )

    return scorecard
