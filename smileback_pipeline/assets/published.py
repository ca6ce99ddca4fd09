"""The analysts' file, published when the marts are built."""

from collections.abc import Sequence

import dagster as dg

from smileback_pipeline.assets.resources import WarehouseResource
from smileback_pipeline.replica.publishing import PublishingError, publish
from smileback_pipeline.replica.state import UNPUBLISHED, save_note
from smileback_pipeline.settings import Settings

PUBLISHED = "published"


def build_published_asset(settings: Settings, marts: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """The file that analysts and BI tools read, complete and of one moment."""

    @dg.asset(
        key=[PUBLISHED, "analytics"],
        deps=list(marts),
        group_name=PUBLISHED,
        kinds={"duckdb", "file"},
        description="The DuckDB file that analysts and BI tools read: replica and marts of one moment, swapped in "
        "atomically. Whoever has it open keeps the version they opened.",
    )
    def analytics(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        try:
            size = publish(warehouse.warehouse, settings.analytics_path)
        except PublishingError as error:
            raise dg.Failure(str(error)) from None
        with warehouse.get_connection() as connection:
            save_note(connection, UNPUBLISHED, None)
        return dg.MaterializeResult(
            metadata={"path": dg.MetadataValue.path(settings.analytics_path), "size_bytes": size}
        )

    return analytics
