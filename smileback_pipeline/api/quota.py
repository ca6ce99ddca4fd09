"""The customer's request quota, shared by all processes on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from platformdirs import user_state_path
from pyrate_limiter import Rate, RateItem, SQLiteBucket

# The server stamps a request a little after we do, so two requests can be closer together for it than for
# us. Half a second more keeps us inside its window and costs less than 1 % of the quota.
_WINDOW_MILLISECONDS = 60_500


class Quota(Protocol):
    """Something to ask before each request."""

    def acquire(self, on_wait: Callable[[float], None]) -> None:
        """Return when a request may be sent; `on_wait` hears the seconds of each wait before it begins."""

    def close(self) -> None:
        """Let go of what the quota is kept in."""


class Unlimited:
    """The quota of a server that has no limit."""

    def acquire(self, on_wait: Callable[[float], None]) -> None:
        """Return at once."""

    def close(self) -> None:
        """Nothing to let go of."""


class SharedQuota:
    """A sliding log of the requests of one customer, in a file that every process of this user shares."""

    def __init__(self, requests_per_minute: int, customer: str, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._bucket = SQLiteBucket.init_from_file(
            [Rate(requests_per_minute, _WINDOW_MILLISECONDS)], db_path=str(_log_of(customer)), use_file_lock=True
        )

    def acquire(self, on_wait: Callable[[float], None]) -> None:
        """Return when a request may be sent, or early when the client is closing."""
        while not self._stopping.is_set():
            now = self._bucket.now()
            self._bucket.leak(now)
            item = RateItem("request", now)
            if self._bucket.put(item):
                return
            wait = self._bucket.waiting(item)
            assert isinstance(wait, int)
            if wait > _WINDOW_MILLISECONDS:
                # Only a clock that was set back leaves requests in the future; they would block for as long.
                self._bucket.flush()
                continue
            seconds = max(wait, 10) / 1000
            on_wait(seconds)
            self._stopping.wait(seconds)

    def close(self) -> None:
        """Close the log; the requests in it go on counting."""
        self._bucket.close()


def _log_of(customer: str) -> Path:
    directory = user_state_path("smileback-pipeline", ensure_exists=True)
    return directory / f"quota-{hashlib.sha256(customer.encode()).hexdigest()[:16]}.sqlite"
