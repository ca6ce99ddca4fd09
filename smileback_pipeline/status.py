"""What is connected, what is replicated and how fresh it is: read from the token store and the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from smileback_pipeline.api.errors import ApiError
from smileback_pipeline.api.tokens import TokenStore
from smileback_pipeline.connection import describe_access
from smileback_pipeline.endpoints import ENDPOINTS
from smileback_pipeline.replica.state import UNPUBLISHED, load_note, load_state, pending_days
from smileback_pipeline.replica.warehouse import Warehouse, WarehouseError
from smileback_pipeline.settings import ConfigurationError, Settings

_PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Connection:
    """How the account is reached. Nothing of it is secret."""

    base_url: str
    client_id: str | None
    username: str | None
    grant: Literal["password", "authorization_code"] | None
    """None if neither a password nor a login of `connect` is there."""
    token_store: str
    token_expires_at: datetime | None
    is_renewable: bool
    scope: str | None
    problem: str | None
    """What keeps a sync from starting."""
    is_answered: bool | None = None
    """Whether SmileBack lets us in just now; None if it was not asked."""
    check: str | None = None
    """What it said."""


@dataclass(frozen=True)
class Replica:
    """One endpoint's table."""

    endpoint: str
    rows: int
    set_aside: int
    synced_at: datetime | None
    """When the last complete walk began: what changed before is here."""
    watermark: datetime | None
    is_cut_short: bool
    """Whether a walk is under way, or was stopped; the next sync goes on with it."""


@dataclass(frozen=True)
class Status:
    """Everything that `smileback-pipeline status` tells."""

    connection: Connection
    warehouse: Path
    replica: list[Replica]
    pending_days: int
    """Days whose marts are behind the replica."""
    is_behind: bool
    """Whether the replica has changes that analysts do not see yet."""
    published: Path
    published_at: datetime | None
    problem: str | None
    """Why the warehouse could not be read."""


def read_status(settings: Settings) -> Status:
    """Return the status as the files have it; asks nobody."""
    replica: list[Replica] = []
    days, is_behind, problem = 0, False, None
    if settings.duckdb_path.exists():
        warehouse = Warehouse(settings.duckdb_path, patience_seconds=_PATIENCE_SECONDS, on_wait=lambda words: None)
        try:
            with warehouse.connect() as connection:
                totals = connection.execute(_TOTALS).fetchall()
                counts = {endpoint: (rows, set_aside) for endpoint, rows, set_aside in totals}
                for endpoint in ENDPOINTS:
                    state = load_state(connection, endpoint)
                    replica.append(
                        Replica(
                            endpoint.name,
                            *counts[endpoint.name],
                            synced_at=state.synced_at,
                            watermark=state.watermark,
                            is_cut_short=state.walk_started_at is not None,
                        )
                    )
                days = len(pending_days(connection))
                is_behind = load_note(connection, UNPUBLISHED) is not None
        except WarehouseError as error:
            problem = str(error)
    published = settings.analytics_path
    return Status(
        connection=read_connection(settings),
        warehouse=settings.duckdb_path,
        replica=replica,
        pending_days=days,
        is_behind=is_behind,
        published=published,
        published_at=datetime.fromtimestamp(published.stat().st_mtime, UTC) if published.exists() else None,
        problem=problem,
    )


def read_connection(settings: Settings) -> Connection:
    """Return how the account is reached, by the settings and the token store."""
    token, problem = None, None
    store: str = settings.token_store
    try:
        settings.require_credentials()
        tokens = TokenStore(settings)
        store = str(tokens)
        token = tokens.load()
        if not token and settings.grant == "stored":
            problem = (
                "There is no login for this client: run `smileback-pipeline connect`, or set SMILEBACK_USERNAME and "
                "SMILEBACK_PASSWORD."
            )
    except (ConfigurationError, ApiError) as error:
        problem = str(error)
    grant = token.grant if token else "password" if settings.grant == "password" and not problem else None
    return Connection(
        base_url=settings.base_url,
        client_id=settings.client_id,
        username=settings.username,
        grant=grant,
        token_store=store,
        token_expires_at=datetime.fromtimestamp(token.expires_at, UTC) if token else None,
        is_renewable=bool(token and token.refresh_token) or settings.grant == "password",
        scope=token.scope if token else None,
        problem=problem,
    )


def checked(status: Status, settings: Settings) -> Status:
    """The status with SmileBack's word on whether the access works, which takes three requests."""
    try:
        is_answered, words = True, f"SmileBack shows this account {describe_access(settings)}"
    except (ConfigurationError, ApiError) as error:
        is_answered, words = False, str(error)
    # Being asked may have renewed the token.
    connection = replace(read_connection(settings), is_answered=is_answered, check=words)
    return replace(status, connection=connection)


def as_json(status: Status) -> str:
    """The status for machines: instants in UTC, paths absolute."""
    return msgspec.json.format(msgspec.json.encode(status, enc_hook=str)).decode()


def lines(status: Status, now: datetime) -> Iterator[str]:
    """The status as a person reads it."""
    yield from _connection_lines(status.connection, now)
    yield ""
    if status.problem:
        yield status.problem
    elif not status.replica:
        yield f"Nothing has been replicated yet: {status.warehouse} does not exist. Run `smileback-pipeline sync`."
    else:
        yield f"{'replica':<16}{'rows':>12}{'set aside':>12}   synced"
        for table in status.replica:
            went = distance(table.synced_at, now) if table.synced_at else "never"
            cut_short = "; a walk is under way or was cut short, a sync goes on with it" if table.is_cut_short else ""
            yield f"{table.endpoint:<16}{table.rows:>12,}{table.set_aside:>12,}   {went}{cut_short}"
        if any(table.set_aside for table in status.replica):
            yield f"Records that are set aside cannot be right: see replica.rejected_records in {status.warehouse}."
    yield ""
    if status.published_at:
        yield f"published   {status.published}, {distance(status.published_at, now)}"
    else:
        yield f"published   nothing yet; it will be {status.published}"
    if status.pending_days:
        yield f"pending     the marts of {status.pending_days:,} days; the next sync rebuilds them"
    elif status.is_behind:
        yield "pending     changes that are not published yet; the next sync publishes them"
    elif status.replica:
        yield "pending     nothing"


def _connection_lines(connection: Connection, now: datetime) -> Iterator[str]:
    match connection.grant:
        case "authorization_code":
            how = "by a login in the browser (`connect`)"
        case "password":
            how = f"as {connection.username}, with the password"
        case None:
            how = "not connected"
    yield f"account     {connection.base_url}, client {connection.client_id or '(none)'}"
    yield f"access      {how}"
    if connection.token_expires_at:
        renewal = "renewed by itself" if connection.is_renewable else "cannot be renewed"
        verb = "expires" if connection.token_expires_at > now else "expired"
        yield (
            f"token       {verb} {distance(connection.token_expires_at, now)}, {renewal}; scope {connection.scope}; "
            f"kept {connection.token_store}"
        )
    elif connection.grant:
        yield "token       none yet; the next sync obtains one"
    if connection.problem:
        yield f"problem     {connection.problem}"
    if connection.check:
        yield f"check       {connection.check}"


def distance(moment: datetime, now: datetime) -> str:
    """How long ago or ahead, and exactly when."""
    apart = abs(now - moment)
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if apart >= 2 * length or (unit == "minute" and apart >= length):
            count = apart // length
            about = f"{count} {unit}{'s' if count != 1 else ''}"
            break
    else:
        about = "less than a minute"
    return f"{about} ago" if moment <= now else f"in {about}"


_TOTALS = " union all ".join(
    f"""
    select '{endpoint.name}', (select count(*) from replica.{endpoint.name}),
        (select count(*) from replica.rejected_records where endpoint = '{endpoint.name}')
    """
    for endpoint in ENDPOINTS
)
