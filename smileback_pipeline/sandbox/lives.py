"""What becomes of a record of the sandbox: its beginning and every later change, decided when it begins."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class Event(NamedTuple):
    at: int  # microseconds since 1970
    fields: dict[str, Any] | None  # those that change; in the first event of a life all; None: the record goes


@dataclass(frozen=True, slots=True)
class Life:
    endpoint: str
    key: int | str
    events: list[Event]  # in the order of their instants
