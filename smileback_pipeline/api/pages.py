"""A page of a list: whether it is one at all, and the few facts of it that the walk needs.

The records themselves stay text. DuckDB parses and types them when they land.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from smileback_pipeline.api.errors import TransientError
from smileback_pipeline.endpoints import Endpoint

_NULL = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct):
    count: int
    results: list[msgspec.Raw]
    next: str | None = None


@dataclass(frozen=True)
class Page:
    """One answer of a list."""

    text: str
    """The body as it came: `{"count": …, "results": […]}`."""
    count: int
    """Records in the whole list, as filtered."""
    keys: Sequence[bytes]
    """What tells a record from the others, in the order of the page: its id, or all of it if it has none."""
    stamps: Sequence[datetime | None]
    """The instants that the endpoint's filter works on; None where missing or unreadable."""
    has_next: bool

    def __len__(self) -> int:
        return len(self.keys)

    def is_last(self, offset: int) -> bool:
        """Whether nothing follows; `next` alone is not believed when `count` promises more."""
        return not self.has_next and offset + len(self) >= self.count


def parse_page(response: httpx.Response, endpoint: Endpoint, doing: str) -> Page:
    """Return the page in a 200 answer, or raise TransientError: what is no page is never an empty one."""
    try:
        # Also what tells a body that was cut from a whole one, where there is no Content-Length.
        envelope = msgspec.json.decode(response.content, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        kind = response.headers.get("Content-Type", "no content type")
        raise TransientError(f"{doing}: HTTP 200 with {kind} that is no page of results ({error}).") from None
    identify = _identifier(endpoint)
    keys, stamps = [], []
    for record in envelope.results:
        key, stamp = identify(record)
        keys.append(key)
        stamps.append(stamp)
    return Page(
        # Bytes that are no UTF-8 cannot be stored; the record around them can.
        text=response.content.decode("utf-8", errors="replace"),
        count=envelope.count,
        keys=keys,
        stamps=stamps,
        has_next=envelope.next is not None,
    )


def parse_stamp(value: object) -> datetime | None:
    """Return the instant that an ISO 8601 stamp means (UTC where it names no zone), None if unreadable."""
    if not isinstance(value, str):
        return None
    try:
        stamp = datetime.fromisoformat(value)
        return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class _Identifier:
    """Reads key and stamp of a record, and skips the rest of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        *parents, key = endpoint.key.path.split(".")
        fields: list[tuple[str, Any, Any]] = [("id", msgspec.Raw, _NULL)]
        if endpoint.filter:
            fields.append(("stamp", object, None))
        names = {"id": key} | ({"stamp": endpoint.filter.stamp} if endpoint.filter else {})
        record: Any = msgspec.defstruct("Record", fields, rename=names)
        for parent in reversed(parents):
            record = msgspec.defstruct("Parent", [("child", record | None, None)], rename={"child": parent})
        self._depth = len(parents)
        self._decoder = msgspec.json.Decoder(record)

    def __call__(self, raw: msgspec.Raw) -> tuple[bytes, datetime | None]:
        try:
            record = self._decoder.decode(raw)
            for _ in range(self._depth):
                record = record.child
            if record is None or bytes(record.id) == b"null":
                return bytes(raw), None
            return bytes(record.id).strip(b'"'), parse_stamp(getattr(record, "stamp", None))
        except msgspec.DecodeError:
            # Not an object. The walk goes on; landing will set it aside with a reason.
            return bytes(raw), None


_identifiers: dict[str, _Identifier] = {}


def _identifier(endpoint: Endpoint) -> _Identifier:
    return _identifiers.setdefault(endpoint.name, _Identifier(endpoint))
