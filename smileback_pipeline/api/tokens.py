"""The token store: the one place on disk, or the one entry of the keyring, that holds a secret."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import filelock
import msgspec

from smileback_pipeline.api.errors import AccessError
from smileback_pipeline.settings import ConfigurationError, Settings

# A token that expires while a request is under way would cost that request.
_EXPIRY_MARGIN_SECONDS = 60
_LOCK_TIMEOUT_SECONDS = 120
_KEYRING_SERVICE = "smileback-pipeline"


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What the token endpoint grants, and to whom."""

    access_token: str
    refresh_token: str | None
    expires_at: float
    """Seconds since the epoch."""
    scope: str
    grant: Literal["password", "authorization_code"]
    """How it was first obtained; renewing it does not change that."""
    server: str
    client_id: str
    username: str | None
    """The user that was configured when it was obtained."""

    @property
    def is_fresh(self) -> bool:
        """Whether it can be used now without being renewed first."""
        return time.time() < self.expires_at - _EXPIRY_MARGIN_SECONDS

    def __repr__(self) -> str:
        return f"Token(grant={self.grant!r}, expires_at={self.expires_at!r})"

    def serves(self, settings: Settings) -> bool:
        """Whether it stands for the account that the settings mean.

        A token must not outlive a change of user: it would fetch one customer's data into another's file. Only
        where no password is configured, the user's name says nothing, and any login of `connect` is meant.
        """
        return self.is_of_client(settings) and (
            self.username == settings.username or (self.grant == "authorization_code" and settings.grant == "stored")
        )

    def is_of_client(self, settings: Settings) -> bool:
        """Whether the configured client can renew and revoke it."""
        return (self.server, self.client_id) == (settings.base_url, settings.client_id)


class TokenStore:
    """Keeps one token, durably, and locked across processes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock_path = settings.token_path.with_name(f"{settings.token_path.name}.lock")
        self._place: _Place = (
            _Keyring(str(settings.token_path)) if settings.token_store == "keyring" else _File(settings.token_path)
        )

    def __str__(self) -> str:
        return str(self._place)

    def load(self) -> Token | None:
        """Return the stored token if it serves the configured account."""
        token = self.load_any()
        return token if token and token.serves(self._settings) else None

    def load_any(self) -> Token | None:
        """Return the stored token, of whatever account it is."""
        with self._told("read"):
            content = self._place.read()
        try:
            return msgspec.json.decode(content, type=Token) if content else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Whatever stands there is no token; a new one will take its place.
            return None

    def save(self, token: Token) -> None:
        """Write durably: a rotated refresh token that is lost locks the pipeline out."""
        with self._told("written"):
            self._place.write(msgspec.json.encode(token))

    def forget(self) -> None:
        """Remove what is stored, if anything."""
        with self._told("written"):
            self._place.remove()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store for oneself, so that two processes never spend one refresh token twice."""
        lock = filelock.FileLock(self._lock_path, timeout=_LOCK_TIMEOUT_SECONDS, mode=0o600)
        with self._told("locked"):
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except filelock.Timeout:
                raise AccessError(
                    f"Another process has held the token store {self} for over {_LOCK_TIMEOUT_SECONDS} s; "
                    "wait for it or stop it, then try again."
                ) from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AccessError(
                f"The token store {self} cannot be {done} ({error.strerror or error}): see to its place, then run "
                "`smileback-pipeline connect` again if you connected that way."
            ) from None


class _Place(Protocol):
    """Where the token's bytes are. Raises OSError."""

    def read(self) -> bytes | None: ...

    def write(self, content: bytes) -> None: ...

    def remove(self) -> None: ...


class _File:
    """A file, mode 0600, replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Always the same, so that what a kill leaves of it is found; the store is locked.
        self._new = path.with_name(f".{path.name}.new")

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        self._new.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._new.replace(self._path)
        except BaseException:
            self._new.unlink(missing_ok=True)
            raise
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self) -> None:
        self._new.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


class _Keyring:
    """An entry of the operating system's keyring, named after the token path."""

    def __init__(self, name: str) -> None:
        try:
            import keyring
            import keyring.errors
        except ImportError:
            raise ConfigurationError(
                "SMILEBACK_TOKEN_STORE is keyring, but the keyring library is not installed: "
                "pip install 'smileback-pipeline[keyring]', or set it to file."
            ) from None
        self._keyring = keyring
        self._errors = keyring.errors
        self._name = name

    def __str__(self) -> str:
        return f"in the keyring ({_KEYRING_SERVICE}, {self._name})"

    def read(self) -> bytes | None:
        with self._as_os_errors():
            content = self._keyring.get_password(_KEYRING_SERVICE, self._name)
        return content.encode() if content else None

    def write(self, content: bytes) -> None:
        with self._as_os_errors():
            self._keyring.set_password(_KEYRING_SERVICE, self._name, content.decode())

    def remove(self) -> None:
        with self._as_os_errors(), contextlib.suppress(self._errors.PasswordDeleteError):
            self._keyring.delete_password(_KEYRING_SERVICE, self._name)

    @contextlib.contextmanager
    def _as_os_errors(self) -> Iterator[None]:
        try:
            yield
        except self._errors.PasswordDeleteError:
            raise
        except self._errors.KeyringError as error:
            raise OSError(str(error) or type(error).__name__) from None
