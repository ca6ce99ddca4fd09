"""What can go wrong between us and SmileBack, classified once.

ApiError
├── TransientError       another try may succeed
│   ├── ThrottledError   429; carries the wait that the server asked for
│   └── UnreachableError no connection, whatever is asked
├── RefusedError         another try would get the same answer (400, 403, 404, a redirect)
├── AccessError          credentials or tokens are refused; a human has to act
└── UnsettledError       the list kept changing or contradicting itself while it was read
"""

from __future__ import annotations

import email.utils
import re
import time

import httpx

LONGEST_QUOTE = 300


class ApiError(Exception):
    """The message names what was asked, what came back and what to do; it never holds a secret."""

    def __init__(self, message: str) -> None:
        # Some of the words can be the server's.
        super().__init__(printable(message))


class TransientError(ApiError):
    """Worth another try."""


class ThrottledError(TransientError):
    """429: the quota is used up, for instance by another client of the same customer."""

    def __init__(self, message: str, retry_after_seconds: float | None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnreachableError(TransientError):
    """There is no connection to the server: no other question would be answered either."""


class RefusedError(ApiError):
    """The server will not answer this request, however often it is asked."""


class AccessError(ApiError):
    """The credentials or tokens are refused."""


class UnsettledError(ApiError):
    """A list that never came out complete."""


def printable(text: str) -> str:
    """Words from outside as one line without what a terminal or a log could take for a command."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def quoted(response: httpx.Response) -> str:
    """The server's words, fit for a log line: printable, without markup, bounded."""
    words = printable(re.sub(r"(?is)<(script|style).*?</\1>|<[^>]*>", " ", response.text[:20_000]))
    return words[:LONGEST_QUOTE] or "(no text)"


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Seconds to wait by `Retry-After`, which is a number or an HTTP date; None if missing or unreadable."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def raise_for_status(response: httpx.Response, doing: str) -> None:
    """Raise the error that a status other than 200 stands for; `doing` names the request in the message."""
    status = response.status_code
    if status == httpx.codes.OK:
        return
    said = f"{doing}: SmileBack answered HTTP {status}: {quoted(response)}"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        seconds = retry_after_seconds(response)
        asked = f". It asks for a wait of {seconds:,.0f} s" if seconds is not None else ""
        raise ThrottledError(f"{said}{asked}.", seconds)
    if status >= 500 or status == httpx.codes.REQUEST_TIMEOUT:
        raise TransientError(said)
    if status == httpx.codes.UNAUTHORIZED:
        raise AccessError(f"{said}. Check the credentials, or run `smileback-pipeline connect` again.")
    if 300 <= status < 400:
        raise RefusedError(f"{said}. It redirects elsewhere; check SMILEBACK_BASE_URL.")
    raise RefusedError(said)
