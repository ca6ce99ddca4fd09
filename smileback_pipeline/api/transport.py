"""HTTP with bounds: verified TLS, no redirects, time-outs, answers that cannot grow without end, no echoed secrets."""

from __future__ import annotations

import html
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote_plus

import httpx

from smileback_pipeline import __version__
from smileback_pipeline.api.errors import RefusedError, TransientError
from smileback_pipeline.settings import ConfigurationError

_CONNECT_SECONDS = 10
_SECRET_FIELDS = frozenset({"client_secret", "password", "refresh_token", "code", "code_verifier", "token"})
_FRAMING_HEADERS = ("content-encoding", "content-length", "transfer-encoding")


@dataclass(frozen=True)
class Bounds:
    """What one answer may cost."""

    silence_seconds: float = 60
    """Without a byte."""
    answer_seconds: float = 300
    """From the first byte of the body to the last, however steadily it drips."""
    # A page of 1,000 records is below 1 MB; this bounds what a broken or hostile answer can cost us.
    body_bytes: int = 64 * 1024 * 1024


class Transport:
    """Sends requests and reads whole answers. One thread at a time."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:
        """Raise ConfigurationError if the certificates or proxies that the environment names cannot be used."""
        self._bounds = bounds
        try:
            self._http = httpx.Client(
                headers={
                    "User-Agent": f"smileback-pipeline/{__version__}",
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                },
                timeout=httpx.Timeout(_CONNECT_SECONDS, read=bounds.silence_seconds),
                follow_redirects=False,
                # Plain HTTP is for loopback alone, which no proxy can reach for us; and none shall see a token in it.
                mounts={"http://": None},
            )
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
            raise ConfigurationError(
                f"HTTPS cannot be set up with the certificates and proxies of the environment ({error}): check "
                "SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, ALL_PROXY and NO_PROXY."
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(
        self, url: str, doing: str, *, parameters: Mapping[str, str] | None = None, access_token: str | None = None
    ) -> httpx.Response:
        """Return the whole answer to a GET, whatever its status.

        Raises TransientError if none came whole, RefusedError if it is longer than anything SmileBack has to say.
        """
        headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
        return self._send(self._http.build_request("GET", url, params=parameters, headers=headers), doing)

    def post_form(self, url: str, doing: str, form: str) -> httpx.Response:
        """Return the whole answer to a POST of an encoded form; raises as `get` does."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send(self._http.build_request("POST", url, content=form, headers=headers), doing)

    def _send(self, request: httpx.Request, doing: str) -> httpx.Response:
        try:
            response = self._http.send(request, stream=True)
            try:
                body = self._body(response, doing)
            finally:
                response.close()
        except (httpx.TransportError, zlib.error) as error:
            words = str(error) or type(error).__name__
            raise TransientError(f"{doing}: no whole answer from {request.url.host} ({words}).") from None
        if response.status_code != httpx.codes.OK:
            for secret in _secrets_of(request):
                body = body.replace(secret, b"[secret]")
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _FRAMING_HEADERS]
        return httpx.Response(response.status_code, headers=headers, content=body)

    def _body(self, response: httpx.Response, doing: str) -> bytes:
        """The body, decompressed here, since httpx has no bound on what a few bytes may inflate to."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("gzip", "identity", ""):
            raise RefusedError(f"{doing}: the answer is compressed as {encoding[:40]!r}, which was not asked for.")
        inflater = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        ends_at = time.monotonic() + self._bounds.answer_seconds
        body = bytearray()
        for chunk in response.iter_raw():
            body += inflater.decompress(chunk, self._bounds.body_bytes - len(body) + 1) if inflater else chunk
            if len(body) > self._bounds.body_bytes:
                raise RefusedError(f"{doing}: the answer is longer than {self._bounds.body_bytes:,} bytes.")
            if time.monotonic() > ends_at:
                raise TransientError(f"{doing}: the answer was not over after {self._bounds.answer_seconds:.0f} s.")
        if inflater and response.num_bytes_downloaded and not inflater.eof:
            raise TransientError(f"{doing}: the compressed answer ends in the middle.")
        return bytes(body)


def _secrets_of(request: httpx.Request) -> Iterator[bytes]:
    """Secrets that a request carried, as an answer that echoes it could write them."""
    secrets = {request.headers.get("Authorization", "").removeprefix("Bearer ")}
    if request.method == "POST":
        secrets.update(value for name, value in parse_qsl(request.content.decode()) if name in _SECRET_FIELDS)
    for secret in filter(None, secrets):
        for written in {secret, quote_plus(secret), html.escape(secret), json.dumps(secret)[1:-1]}:
            yield written.encode()
