"""A backend of the keyring library that keeps its entries in a directory, in place of an operating system's."""

import os
from hashlib import sha256
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class FileKeyring(KeyringBackend):
    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        entry = _entry(service, username)
        return entry.read_text() if entry.exists() else None

    def set_password(self, service: str, username: str, password: str) -> None:
        _entry(service, username).write_text(password)

    def delete_password(self, service: str, username: str) -> None:
        try:
            _entry(service, username).unlink()
        except FileNotFoundError:
            raise PasswordDeleteError("There is no such entry.") from None


class LockedKeyring(KeyringBackend):
    """One whose owner has not unlocked it."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("The collection is locked.")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("The collection is locked.")

    def delete_password(self, service: str, username: str) -> None:
        raise KeyringLocked("The collection is locked.")


def _entry(service: str, username: str) -> Path:
    return Path(os.environ["FILE_KEYRING"]) / sha256(f"{service}|{username}".encode()).hexdigest()
