"""The token store: the one place on disk that holds a secret."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import msgspec

from smileback_pipeline.api.errors import AccessError

# A token that expires while a request is under way would cost that request.
_EXPIRY_MARGIN_SECONDS = 60
_LOCK_TIMEOUT_SECONDS = 120


class Token(msgspec.Struct, frozen=True):
    """What the token endpoint grants. `account` says whose it is, so that another account never uses it."""

    access_token: str
    refresh_token: str | None
    expires_at: float
    """Seconds since the epoch."""
    scope: str
    account: str

    @property
    def is_fresh(self) -> bool:
        """Whether it can be used now without being renewed first."""
        return time.time() < self.expires_at - _EXPIRY_MARGIN_SECONDS

    def __repr__(self) -> str:
        return f"Token(account={self.account!r}, expires_at={self.expires_at!r})"


class TokenStore:
    """A JSON file, mode 0600, replaced atomically and durably, locked across processes."""

    def __init__(self, path: Path, account: str) -> None:
        self.path = path
        self._account = account

    def load(self) -> Token | None:
        """Return the stored token of this account, if there is one."""
        try:
            token = msgspec.json.decode(self.path.read_bytes(), type=Token)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            # Whatever stands there is no token; a new one will take its place.
            return None
        return token if token.account == self._account else None

    def save(self, token: Token) -> None:
        """Write durably: a rotated refresh token that is lost locks the pipeline out."""
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(token))
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def forget(self) -> None:
        """Remove the stored token, if any."""
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store for oneself, so that two processes never spend one refresh token twice."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{self.path}.lock", timeout=_LOCK_TIMEOUT_SECONDS, mode=0o600)
        try:
            with lock:
                yield
        except filelock.Timeout:
            raise AccessError(
                f"Another process has held the token store {self.path} for over {_LOCK_TIMEOUT_SECONDS} s; "
                "wait for it or stop it, then try again."
            ) from None
