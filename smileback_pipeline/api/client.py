"""One request at a time to SmileBack: access, quota, retries and bounds around it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx
import stamina

from smileback_pipeline.api.auth import Access, TokenEndpoint
from smileback_pipeline.api.errors import (
    ApiError,
    ThrottledError,
    TransientError,
    raise_for_status,
)
from smileback_pipeline.api.pages import Page, parse_page
from smileback_pipeline.api.quota import Quota, SharedQuota, Unlimited
from smileback_pipeline.api.tokens import Token
from smileback_pipeline.api.transport import Bounds, Transport
from smileback_pipeline.endpoints import Endpoint
from smileback_pipeline.settings import Settings

PAGE_SIZE = 1000
"""The vendor's maximum."""


@dataclass(frozen=True)
class Patience:
    """How long to go on when SmileBack does not answer well."""

    attempts: int = 8
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30
    longest_retry_after_seconds: float = 600
    """A server that asks for more than this ends the run; what was read until then is kept."""
    bounds: Bounds = field(default_factory=Bounds)


class SmileBackClient:
    """Reads pages of the nine endpoints. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        patience: Patience = Patience(),
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        settings.require_credentials()
        self.requests = 0
        self.waited_seconds = 0.0
        self._base_url = settings.base_url.rstrip("/")
        self._patience = patience
        self._on_wait = on_wait
        self._stopping = threading.Event()
        self._quota: Quota = (
            SharedQuota(settings.requests_per_minute, f"{self._base_url}|{settings.client_id}", self._stopping)
            if settings.requests_per_minute
            else Unlimited()
        )
        self._transport = Transport(patience.bounds)
        self._access = Access(settings, TokenEndpoint(settings, self._transport))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End waits and close connections."""
        self._stopping.set()
        self._transport.close()
        self._quota.close()

    def fetch_page(self, endpoint: Endpoint, *, since: datetime | None, offset: int, limit: int = PAGE_SIZE) -> Page:
        """Return one page of an endpoint, or raise ApiError once patience is at its end."""
        parameters = {"limit": str(limit), **endpoint.parameters}
        if offset:
            parameters["offset"] = str(offset)
        if endpoint.filter and since is not None:
            parameters[endpoint.filter.parameter] = format_stamp(since)
        url = f"{self._base_url}/v3/{endpoint.path}/"
        doing = f"Reading {endpoint.path} at offset {offset}" + (f" since {format_stamp(since)}" if since else "")
        for attempt in stamina.retry_context(
            on=self._backoff,
            attempts=self._patience.attempts,
            timeout=None,
            wait_initial=self._patience.first_wait_seconds,
            wait_max=self._patience.longest_wait_seconds,
            wait_jitter=self._patience.first_wait_seconds,
        ):
            with attempt:
                response = self._get(url, parameters, doing)
                raise_for_status(response, doing)
                return parse_page(response, endpoint, doing)
        raise AssertionError("retry_context ends by returning or raising")

    def _get(self, url: str, parameters: dict[str, str], doing: str) -> httpx.Response:
        token = self._access.token()
        response = self._get_with(token, url, parameters, doing)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            response = self._get_with(self._access.renewed(token), url, parameters, doing)
        return response

    def _get_with(self, token: Token, url: str, parameters: dict[str, str], doing: str) -> httpx.Response:
        # Every request that leaves counts, also one that is repeated with a new token.
        self._quota.acquire(self._wait_begins)
        self.requests += 1
        return self._transport.get(url, doing, parameters=parameters, access_token=token.access_token)

    def _wait_begins(self, seconds: float) -> None:
        self.waited_seconds += seconds
        self._on_wait(seconds)

    def _backoff(self, error: Exception) -> bool | float:
        if isinstance(error, ThrottledError):
            asked = error.retry_after_seconds
            # A window of a minute frees up little by little; a quarter of it is a fair guess.
            seconds = 15 if asked is None else max(1, asked)
            if seconds > self._patience.longest_retry_after_seconds:
                return False
            self._wait_begins(seconds)
            return float(seconds)
        return isinstance(error, TransientError)


def format_stamp(stamp: datetime) -> str:
    """Return an instant as the API writes it, in UTC: `+00:00` unescaped would be read as a space."""
    return stamp.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


__all__ = ["PAGE_SIZE", "ApiError", "Patience", "SmileBackClient", "format_stamp"]
