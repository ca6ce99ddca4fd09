"""HTTP with bounds: verified TLS, no redirects, time-outs, answers that cannot grow without end, no echoed secrets."""

from __future__ import annotations

import contextlib
import html
import json
import socket
import ssl
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote_plus

import httpx

from smileback_pipeline import __version__
from smileback_pipeline.api.errors import RefusedError, TransientError, UnreachableError
from smileback_pipeline.settings import LOOPBACK_HOSTS, ConfigurationError

_SECRET_FIELDS = frozenset({"client_secret", "password", "refresh_token", "code", "code_verifier", "token"})
_FRAMING_HEADERS = (b"content-encoding", b"content-length", b"transfer-encoding")


@dataclass(frozen=True)
class Bounds:
    """What one answer may cost."""

    connect_seconds: float = 10
    silence_seconds: float = 60
    """Without a byte."""
    answer_seconds: float = 300
    """From the request to the last byte, however steadily it drips."""
    # A page of 1,000 records is below 1 MB; this bounds what a broken or hostile answer can cost us.
    body_bytes: int = 64 * 1024 * 1024


class Transport:
    """Sends requests and reads whole answers. One thread at a time."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:
        """Raise ConfigurationError if the certificates or proxies that the environment names cannot be used."""
        self._bounds = bounds
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_late = threading.Event()
        try:
            self._http = httpx.Client(
                headers={
                    "User-Agent": f"smileback-pipeline/{__version__}",
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                },
                timeout=httpx.Timeout(bounds.connect_seconds, read=bounds.silence_seconds),
                follow_redirects=False,
                # No proxy can reach our loopback for us. Plain HTTP is for loopback alone; no proxy shall see a token.
                mounts=dict.fromkeys(["http://", *(f"all://{_in_url(host)}" for host in LOOPBACK_HOSTS)]),
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

        Raises UnreachableError if there is no connection, TransientError if no answer came whole, RefusedError if it is
        longer than anything SmileBack has to say.
        """
        headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
        return self._send(self._http.build_request("GET", url, params=parameters, headers=headers), doing)

    def post_form(self, url: str, doing: str, form: str) -> httpx.Response:
        """Return the whole answer to a POST of an encoded form; raises as `get` does."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send(self._http.build_request("POST", url, content=form, headers=headers), doing)

    def _send(self, request: httpx.Request, doing: str) -> httpx.Response:
        request.extensions["trace"] = self._note_socket
        try:
            with self._deadline():
                response = self._http.send(request, stream=True)
                try:
                    body = self._body(response, doing)
                finally:
                    response.close()
        # httpx looks at the address of a redirect, also where it does not follow it.
        except (httpx.TransportError, httpx.InvalidURL, zlib.error) as error:
            if refusal := _certificate_refusal(error):
                raise RefusedError(
                    f"{doing}: the certificate of {request.url.host} cannot be trusted ({refusal}). If it is your own, "
                    "or that of a proxy which looks into HTTPS, name a file with its authority's certificate in "
                    "SSL_CERT_FILE."
                ) from None
            if not self._is_late.is_set():
                words = str(error) or type(error).__name__
                is_connected = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                kind = TransientError if is_connected else UnreachableError
                raise kind(f"{doing}: no whole answer from {request.url.host} ({words}).") from None
        if self._is_late.is_set():
            raise TransientError(f"{doing}: the answer was not over after {self._bounds.answer_seconds:.0f} s.")
        if response.status_code != httpx.codes.OK:
            for secret in _secrets_of(request):
                body = body.replace(secret, b"[secret]")
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _FRAMING_HEADERS]
        return httpx.Response(response.status_code, headers=headers, content=body)

    def _body(self, response: httpx.Response, doing: str) -> bytes:
        """The body, decompressed here, since httpx has no bound on what a few bytes may inflate to."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("gzip", "identity", ""):
            raise RefusedError(f"{doing}: the answer is compressed as {encoding[:40]!r}, which was not asked for.")
        inflater = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        body = bytearray()
        for chunk in response.iter_raw():
            if inflater and inflater.eof:
                raise TransientError(f"{doing}: the compressed answer goes on after its end.")
            body += inflater.decompress(chunk, self._bounds.body_bytes - len(body) + 1) if inflater else chunk
            if len(body) > self._bounds.body_bytes:
                raise RefusedError(f"{doing}: the answer is longer than {self._bounds.body_bytes:,} bytes.")
        if inflater and response.num_bytes_downloaded and not inflater.eof:
            raise TransientError(f"{doing}: the compressed answer ends in the middle.")
        return bytes(body)

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """Cut the connection off when the time is up: a socket's own time-out begins anew at each byte."""
        self._is_late.clear()
        timer = threading.Timer(self._bounds.answer_seconds, self._cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut_off(self) -> None:
        self._is_late.set()
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which takes the encryption away from whoever is reading.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _note_socket(self, event: str, details: dict[str, Any]) -> None:
        """Hear of connections as httpcore makes them."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._sockets.add(details["return_value"].get_extra_info("socket"))
            if self._is_late.is_set():
                self._cut_off()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _certificate_refusal(error: BaseException | None) -> str | None:
    """Why a certificate was refused, if that is what is behind an error."""
    while error:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _secrets_of(request: httpx.Request) -> Iterator[bytes]:
    """Secrets that a request carried, as an answer that echoes it could write them."""
    secrets = {request.headers.get("Authorization", "").removeprefix("Bearer ")}
    if request.method == "POST":
        secrets.update(value for name, value in parse_qsl(request.content.decode()) if name in _SECRET_FIELDS)
    for secret in filter(None, secrets):
        for written in {secret, quote_plus(secret), html.escape(secret), json.dumps(secret)[1:-1]}:
            yield written.encode()
