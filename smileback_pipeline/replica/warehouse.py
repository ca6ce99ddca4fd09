"""The pipeline's own DuckDB file: opening it for as long as a write takes, and the tables in it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import duckdb
import stamina

from smileback_pipeline.endpoints import ENDPOINTS, Endpoint
from smileback_pipeline.replica import history

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
# The oldest storage format that all DuckDB versions of today's BI tools read; it sticks to the file.
STORAGE_VERSION = "v1.2.0"
# Rows that DuckDB packs together when it writes them: its row group.
PACKED_ROWS = 122_880
# What two batches take, and some more: where nothing is left, DuckDB hands what it frees back to the system at once,
# only to ask for it again.
_MEMORY_LIMIT = 144_000_000
# Of it, what there has to be besides the rows that are packed.
_MEMORY_BESIDES = 72_000_000
# What DuckDB remembers of a deletion until the file is closed: so many bytes for each of the rows that it reads
# together with the one that is deleted.
_MEMORY_A_DELETION = 12
_ROWS_READ_TOGETHER = 2_048
# Bytes that a row takes in the file, at least.
_SIZE_OF_A_ROW = 40


class WarehouseError(Exception):
    """The file cannot be used; the message says why and what to do."""


class Warehouse:
    """One DuckDB file. Other processes can open it whenever no `connect` block is running.

    Between the blocks, `session` goes on: a DuckDB in memory, whose tables the blocks see too.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience_seconds: float = 60,
        on_wait: Callable[[str], None] = log.warning,
    ) -> None:
        self.path = path
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait
        self._is_in_a_hurry = False
        self._rooms = threading.Lock()

    @cached_property
    def session(self) -> duckdb.DuckDBPyConnection:
        """Where pages are parsed while nobody is kept from the file."""
        session = duckdb.connect()
        self._room_to_write = self._room_to_delete = 0
        # What does not fit into memory is spilled beside the file, where there has to be room anyway.
        session.execute(
            f"set global TimeZone = 'UTC'; set memory_limit = '{_MEMORY_LIMIT}B'; "
            # Each statement is the work of the thread that asks for it. What is in memory for a moment is not packed,
            # and the file is packed when it is closed.
            f"set threads = 1; set checkpoint_threshold = '1GB'; set temp_directory = {_quoted(self.path, '.tmp')}"
        )
        return session

    @contextlib.contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file, with the tables of schema `replica` in it, and close it whatever happens.

        Waits while another process has it open; raises WarehouseError when that takes too long.
        """
        # One that is empty has nothing to lose, and is nothing that DuckDB would open.
        if not self.path.exists() or not self.path.stat().st_size:
            self._create()
        elif self.path.with_name(f"{self.path.name}.wal").exists():
            # A run was killed, perhaps after it deleted rows all over the file.
            self._make_room(to_delete=self.path.stat().st_size // _SIZE_OF_A_ROW * _MEMORY_A_DELETION)
        self._patiently(lambda: self.session.execute(f"attach {_quoted(self.path)} as warehouse"))
        try:
            with self.refusals_told():
                self.session.execute("use warehouse")
                _migrate(self.session, self.path)
                yield self.session
                self.session.execute("use memory; detach warehouse")
        except BaseException:
            # Whatever state it is in: a session that is closed holds no file. While a second thread is at work, it
            # cannot be; that is then done by whoever ends the other.
            with contextlib.suppress(duckdb.ResourceInUseException):
                self.close()
            raise

    def make_room(self, size: int) -> None:
        """Have the memory that it takes to write rows of `size` bytes: at most PACKED_ROWS of them, together."""
        self._make_room(to_write=2 * size)

    def make_room_to_delete(self, count: int, table: str) -> None:
        """Have the memory that it takes to delete so many rows, which may be anywhere in a table of the open file."""
        if count:
            row = self.session.execute(f"select count(*) from {table}").fetchone()
            assert row is not None
            self._make_room(to_delete=min(count * _ROWS_READ_TOGETHER, row[0]) * _MEMORY_A_DELETION)

    @contextlib.contextmanager
    def in_little_room(self) -> Iterator[None]:
        """Do with the memory that there is besides what it takes to write rows: a large join takes all that it gets."""
        _limit_memory(self.session, _MEMORY_BESIDES)
        yield
        _limit_memory(self.session, self._room)

    @contextlib.contextmanager
    def beside(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to what the session has in memory, for a second thread."""
        connection = self.session.cursor()
        try:
            yield connection
        except BaseException:
            connection.close()
            # What failed here, or in the other thread, may have left the file open.
            self.close()
            raise
        connection.close()

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the file open for this process: dbt would open and close it for each of its models and tests.

        Waits and raises as `connect` does.
        """
        with contextlib.closing(self._patiently(lambda: duckdb.connect(self.path))):
            yield

    @contextlib.contextmanager
    def refusals_told(self) -> Iterator[None]:
        """Raise WarehouseError in place of what the disk or the memory refuses to DuckDB."""
        try:
            yield
        except (duckdb.OperationalError, duckdb.FatalException) as error:
            raise WarehouseError(
                f"Writing {self.path} failed ({_first_line(error)}). What was committed before stays. If the disk is "
                "full, make room; then sync again."
            ) from None

    def hurry(self) -> None:
        """Wait a few seconds at most, from now on, for another process that has the file open: the run is to end."""
        self._is_in_a_hurry = True

    def close(self) -> None:
        """End the session; the next use begins another."""
        if "session" in self.__dict__:
            self.session.close()
            del self.session

    @property
    def _room(self) -> int:
        return max(_MEMORY_LIMIT, _MEMORY_BESIDES + self._room_to_write + self._room_to_delete)

    def _make_room(self, *, to_write: int = 0, to_delete: int = 0) -> None:
        session = self.session
        with self._rooms:
            before = self._room
            self._room_to_write = max(self._room_to_write, to_write)
            self._room_to_delete = max(self._room_to_delete, to_delete)
            if self._room > before:
                _limit_memory(session, self._room)

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Killed on the way, it would be half a database under this name for ever.
        new = self.path.with_name(f".{self.path.name}.new")
        new.unlink(missing_ok=True)
        duckdb.connect(new, config={"storage_compatibility_version": STORAGE_VERSION}).close()
        new.chmod(0o600)
        new.replace(self.path)

    def _patiently(self, opened: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
        def is_locked(error: Exception) -> bool:
            if isinstance(error, duckdb.IOException) and "lock" in str(error):
                self._on_wait(f"Waiting for {self.path}: another program has it open ({_holder(error)}).")
                return True
            return False

        try:
            for attempt in stamina.retry_context(
                on=lambda error: is_locked(error) and not self._is_in_a_hurry,
                attempts=None,
                timeout=self._patience_seconds,
                wait_initial=0.1,
                wait_max=5,
            ):
                with attempt:
                    return opened()
            raise AssertionError("retry_context ends by returning or raising")
        except duckdb.Error as error:
            if is_locked(error):
                raise WarehouseError(
                    f"{self.path} stayed locked for {self._patience_seconds:.0f} s by another program "
                    f"({_holder(error)}). Close it there; analysts read the published file, not this one."
                ) from None
            raise WarehouseError(
                f"{self.path} cannot be opened ({_first_line(error)}). If a newer DuckDB wrote it, upgrade; if "
                "it is damaged, move it away and sync: SmileBack still has everything."
            ) from None


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of the block, or nothing of it."""
    connection.execute("begin")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Create what is missing; what an older version of us left is extended, a newer one's is refused."""
    version = _schema_version(connection)
    if version == SCHEMA_VERSION:
        return
    if version is not None and version > SCHEMA_VERSION:
        raise WarehouseError(
            f"{path} was written by a newer version of smileback-pipeline (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): upgrade smileback-pipeline."
        )
    with transaction(connection):
        connection.execute("create schema if not exists replica")
        connection.execute(_STATE_TABLES)
        connection.execute(f"create table if not exists {history.TABLE} ({history.COLUMNS})")
        for endpoint in ENDPOINTS:
            columns = ", ".join(f'"{name}" {type}' for name, type in _columns(endpoint).items())
            connection.execute(f"create table if not exists replica.{endpoint.name} ({columns})")
            _extend(connection, endpoint)
        connection.execute("delete from replica.notes where name = 'schema_version'")
        connection.execute("insert into replica.notes values ('schema_version', ?)", [str(SCHEMA_VERSION)])


def _schema_version(connection: duckdb.DuckDBPyConnection) -> int | None:
    try:
        row = connection.execute("select value from replica.notes where name = 'schema_version'").fetchone()
    except duckdb.CatalogException:
        return None
    return int(row[0]) if row else None


def _extend(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> None:
    """Add the columns that an older version of us did not know, and have the whole list read again to fill them."""
    present = connection.execute(f"describe replica.{endpoint.name}").fetchall()
    missing = _columns(endpoint).keys() - {name for name, *_ in present}
    for name in missing:
        connection.execute(f'alter table replica.{endpoint.name} add column "{name}" {_columns(endpoint)[name]}')
    if missing:
        connection.execute(
            "update replica.sync_state set watermark = null, walk_started_at = null, walk_from = null "
            "where endpoint = ?",
            [endpoint.name],
        )


def _columns(endpoint: Endpoint) -> dict[str, str]:
    types = {column.name: column.type.value for column in endpoint.columns}
    return types | {"extra": "json", "synced_at": "timestamptz"}


_STATE_TABLES = """
create table if not exists replica.sync_state (
    endpoint varchar, watermark timestamptz, walk_started_at timestamptz, walk_since timestamptz,
    walk_from timestamptz,
    walk_is_full boolean, read_whole_at timestamptz, reread_at timestamptz, synced_at timestamptz
);
create table if not exists replica.walk_seen (endpoint varchar, key varchar);
create table if not exists replica.rejected_records (
    endpoint varchar, key varchar, record json, reason varchar, seen_at timestamptz
);
create table if not exists replica.pending_days (date_day date);
create table if not exists replica.notes (name varchar, value varchar);
"""


def _holder(error: Exception) -> str:
    """What DuckDB says of the process that holds the lock, such as `python3 (PID 4711)`."""
    _, _, told = _first_line(error).partition("Conflicting lock is held in ")
    return told.split(" by user")[0].split(". ")[0] or "by whom is unknown"


def _limit_memory(session: duckdb.DuckDBPyConnection, size: int) -> None:
    # Another thread may be using the connection.
    with session.cursor() as connection:
        connection.execute(f"set memory_limit = '{size}B'")


def _quoted(path: Path, suffix: str = "") -> str:
    return "'" + f"{path}{suffix}".replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
