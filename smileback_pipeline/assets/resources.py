"""The resources that assets work with: the SmileBack account and the warehouse file."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import dagster as dg
import duckdb
import filelock
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.automation.liveness import fail_dead_runs, hold_run
from smileback_pipeline.replica.warehouse import Warehouse, WarehouseError
from smileback_pipeline.settings import Settings, validated_settings

WAREHOUSE_POOL = "warehouse"
"""The pool of all steps that write to the warehouse. `dagster.yaml` grants it one slot."""
_SECRETS = ("client_secret", "password")


class SmileBackResource(dg.ConfigurableResource):
    """One SmileBack account. Secrets are environment variables, so that no run configuration holds them."""

    base_url: str
    client_id: str | None = None
    client_secret: str | None = None
    username: str | None = None
    password: str | None = None
    scope: str
    token_store: str
    token_path: str
    requests_per_minute: int

    @classmethod
    def from_settings(cls, settings: Settings) -> "SmileBackResource":
        """The account that the settings name, with references in the place of secrets."""
        secrets = {name: dg.EnvVar(f"SMILEBACK_{name}".upper()) for name in _SECRETS if getattr(settings, name)}
        return cls(
            base_url=settings.base_url,
            client_id=settings.client_id,
            username=settings.username,
            scope=settings.scope,
            token_store=settings.token_store,
            token_path=str(settings.token_path),
            requests_per_minute=settings.requests_per_minute,
            **secrets,
        )

    def client(self, on_wait: Callable[[float], None] = lambda seconds: None) -> SmileBackClient:
        """Return a client of the account, to be closed; raises ConfigurationError where access is missing."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return SmileBackClient(validated_settings(**{k: v for k, v in given.items() if v is not None}), on_wait=on_wait)


class WarehouseResource(DuckDBResource):
    """The pipeline's own DuckDB file. A run has it for itself: others wait until the run is over.

    The lock is the operating system's, so it ends with the process, however that ends.
    """

    run_lock_timeout_seconds: int = 3600
    _warehouse: Warehouse = PrivateAttr()

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["WarehouseResource", None, None]:
        """Hold the run lock for as long as the run lasts."""
        log, run, instance = context.log, context.run, context.instance
        assert log and run and instance
        hold_run(instance, run.run_id)
        # What the dead left in the pool would let this run wait for ever.
        fail_dead_runs(instance)
        path = Path(self.database)
        lock = filelock.FileLock(f"{path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.warning(f"Another run is using {path}; waiting until it is over.")
            try:
                lock.acquire(timeout=self.run_lock_timeout_seconds)
            except filelock.Timeout:
                raise WarehouseError(
                    f"Another run has been using {path} for over {self.run_lock_timeout_seconds} s; not started."
                ) from None
        except OSError as error:
            raise WarehouseError(
                f"{path} cannot be used ({error.strerror}): mend SMILEBACK_DUCKDB_PATH, or who may write there."
            ) from None
        try:
            self._warehouse = Warehouse(path, on_wait=log.warning)
            yield self
        finally:
            lock.release()

    @property
    def warehouse(self) -> Warehouse:
        """The file, to be opened for as long as a write takes."""
        return self._warehouse

    @contextlib.contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file and close it whatever happens, which the inherited method does not; others need the memory."""
        with contextlib.closing(self._warehouse), self._warehouse.connect() as connection:
            yield connection
