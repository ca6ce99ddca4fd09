"""The replica's nine assets, one a SmileBack endpoint, materialized by one walk each."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime

import dagster as dg
import pydantic

from smileback_pipeline.api.errors import AccessError, ApiError, TransientError, UnreachableError, UnsettledError
from smileback_pipeline.assets.checks import REPLICA_FRESHNESS, replica_check_results, replica_check_specs
from smileback_pipeline.assets.metadata import OWNERS, replication_metadata
from smileback_pipeline.assets.reporting import LogReporter, Reporter
from smileback_pipeline.assets.resources import WAREHOUSE_POOL, SmileBackResource, WarehouseResource
from smileback_pipeline.automation.jobs import RETRIED
from smileback_pipeline.automation.retention import KEPT, forget_runs
from smileback_pipeline.endpoints import ENDPOINTS, REVIEWS, Endpoint
from smileback_pipeline.replica.state import UNCHECKED, save_note
from smileback_pipeline.replica.summary import summarize
from smileback_pipeline.replica.warehouse import WarehouseError
from smileback_pipeline.replication import replicate
from smileback_pipeline.settings import ConfigurationError, Settings

REPLICA = "replica"
_MAY_PASS = (TransientError, UnsettledError, WarehouseError)


class SyncConfig(dg.Config):
    """What to read, beyond what is new."""

    since: str | None = pydantic.Field(None, description="Read changes again from this day on, e.g. 2025-01-31.")
    full: bool = pydantic.Field(False, description="Read everything again, and find what vanished without a trace.")
    endpoints: list[str] = pydantic.Field([], description="Only these endpoints, e.g. ['reviews']; all if empty.")


def build_replica_assets(
    settings: Settings, descriptions: Mapping[str, Mapping[str, str]], reporter: Reporter | None
) -> dg.AssetsDefinition:
    """One step that replicates the selected endpoints one after the other; they share one quota.

    `descriptions` are those of the columns, by endpoint and column.
    """

    @dg.multi_asset(
        name="replicate",
        specs=[
            dg.AssetSpec(
                _key(endpoint),
                description=endpoint.description,
                group_name=REPLICA,
                owners=OWNERS,
                kinds={"api", "duckdb"},
                tags={"smileback/endpoint": endpoint.path},
                skippable=True,
                freshness_policy=REPLICA_FRESHNESS,
                metadata={
                    "dagster/column_schema": _column_schema(endpoint, descriptions[endpoint.name]),
                    "dagster/table_name": f"{REPLICA}.{endpoint.name}",
                    "api": dg.MetadataValue.url(f"{settings.base_url}/v3/{endpoint.path}/"),
                },
            )
            for endpoint in ENDPOINTS
        ],
        check_specs=[spec for endpoint in ENDPOINTS for spec in replica_check_specs(endpoint, _key(endpoint))],
        can_subset=True,
        pool=WAREHOUSE_POOL,
    )
    def replicate_endpoints(
        context: dg.AssetExecutionContext,
        config: SyncConfig,
        smileback: SmileBackResource,
        warehouse: WarehouseResource,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        listener = reporter or LogReporter(context.log)
        selected = _selected(context, config)
        if not context.selected_asset_keys:
            yield from _asked(context, _judged_as_it_is(warehouse, settings))
            return
        if config.full:
            forgotten = forget_runs(context.instance, created_before=datetime.now(UTC) - KEPT)
            context.log.info(f"{forgotten:,} runs of more than {KEPT.days} days ago are forgotten.")
            with warehouse.get_connection() as connection:
                save_note(connection, UNCHECKED, "everything is read again")
        failures: dict[str, Exception] = {}
        try:
            client = smileback.client(listener.waiting)
        except ConfigurationError as error:
            raise dg.Failure(str(error)) from None
        with client:
            for endpoint in selected:
                try:
                    result = replicate(
                        endpoint,
                        client,
                        warehouse.warehouse,
                        settings,
                        since=_start_of(config.since, settings),
                        full=config.full,
                        progress=lambda *, read, expected, endpoint=endpoint: listener.reading(
                            endpoint, read=read, expected=expected
                        ),
                    )
                except AccessError as error:
                    # No other endpoint would let us in either.
                    raise dg.Failure(str(error)) from None
                except (ApiError, WarehouseError) as error:
                    listener.failed(endpoint, error)
                    failures[endpoint.name] = error
                    if isinstance(error, UnreachableError):
                        # Each of the others would be a minute of trying in vain.
                        break
                else:
                    listener.replicated(endpoint, result)
                    yield dg.MaterializeResult(asset_key=_key(endpoint), metadata=replication_metadata(result))
                    yield from _asked(
                        context, replica_check_results(_key(endpoint), settings, result.summary, result.tally)
                    )
        # dbt, which comes next, needs the memory.
        warehouse.warehouse.close()
        if failures:
            if any(isinstance(error, _MAY_PASS) for error in failures.values()):
                context.instance.add_run_tags(context.run.run_id, RETRIED)
            raise dg.Failure(
                "; ".join(f"{name}: {error}" for name, error in failures.items()),
                metadata={name: str(error) for name, error in failures.items()},
            )

    return replicate_endpoints


def build_versions_asset(descriptions: Mapping[str, str]) -> dg.AssetSpec:
    """What reviews said before, which the replication of the reviews keeps."""
    return dg.AssetSpec(
        [REPLICA, "review_versions"],
        deps=[_key(REVIEWS)],
        description="What reviews said before: one row for each rating, status or comment that was replaced. Written "
        "together with the reviews.",
        group_name=REPLICA,
        owners=OWNERS,
        kinds={"duckdb"},
        metadata={
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(name, description=description) for name, description in descriptions.items()]
            )
        },
    )


def _key(endpoint: Endpoint) -> dg.AssetKey:
    return dg.AssetKey([REPLICA, endpoint.name])


def _judged_as_it_is(warehouse: WarehouseResource, settings: Settings) -> Iterator[dg.AssetCheckResult]:
    """Judge the whole replica without asking SmileBack."""
    with warehouse.get_connection() as connection:
        for endpoint in ENDPOINTS:
            summary = summarize(connection, endpoint, start=settings.start)
            yield from replica_check_results(_key(endpoint), settings, summary, None)


def _asked(
    context: dg.AssetExecutionContext, results: Iterable[dg.AssetCheckResult]
) -> Iterator[dg.AssetCheckResult]:
    """The results of the checks that the run was started for."""
    for result in results:
        assert result.asset_key and result.check_name
        if dg.AssetCheckKey(result.asset_key, result.check_name) in context.selected_asset_check_keys:
            yield result


def _selected(context: dg.AssetExecutionContext, config: SyncConfig) -> list[Endpoint]:
    names = [endpoint.name for endpoint in ENDPOINTS]
    if unknown := sorted(set(config.endpoints) - set(names)):
        raise dg.Failure(f"There is no endpoint {', '.join(unknown)}; there are {', '.join(names)}.")
    return [
        endpoint
        for endpoint in ENDPOINTS
        if _key(endpoint) in context.selected_asset_keys
        and (not config.endpoints or endpoint.name in config.endpoints)
    ]


def _start_of(day: str | None, settings: Settings) -> datetime | None:
    if day is None:
        return None
    try:
        return datetime.combine(date.fromisoformat(day), datetime.min.time(), settings.zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise dg.Failure(f"since is {day!r}; it must be a day such as 2025-01-31.") from None


def _column_schema(endpoint: Endpoint, descriptions: Mapping[str, str]) -> dg.TableSchema:
    types = {column.name: column.type.value for column in endpoint.columns}
    types |= {"extra": "json", "synced_at": "timestamptz"}
    return dg.TableSchema([dg.TableColumn(name, type_, descriptions.get(name)) for name, type_ in types.items()])
