"""The authorization-code grant in the browser: the address to open, and what the redirect back from it means."""

from __future__ import annotations

import http.server
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

from oauthlib.oauth2 import MismatchingStateError, OAuth2Error, WebApplicationClient

from smileback_pipeline.api.errors import LONGEST_QUOTE, AccessError
from smileback_pipeline.settings import LOOPBACK_HOSTS, Settings

_AGAIN = "Nothing was changed. Run `smileback-pipeline connect` again"
_IDLE_CONNECTION_SECONDS = 10


class AuthorizationRequest:
    """One attempt to log in: `state` ties the redirect to it, PKCE the code."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redirect_uri
        self.redirect_uri = settings.redirect_uri
        self._client = WebApplicationClient(settings.client_id)
        self._state = secrets.token_urlsafe(32)
        self.code_verifier = self._client.create_code_verifier(64)
        # A server that does not know PKCE ignores its parameters (RFC 6749, section 3.1).
        authorize = urlsplit(settings.authorize_url)
        url = self._client.prepare_request_uri(
            _as_https(authorize),
            redirect_uri=self.redirect_uri,
            scope=settings.scope,
            state=self._state,
            code_challenge=self._client.create_code_challenge(self.code_verifier, "S256"),
            code_challenge_method="S256",
        )
        self.url = urlsplit(url)._replace(scheme=authorize.scheme).geturl()

    def code_in(self, redirect: str) -> str:
        """Return the code in the address that the browser was sent to, or raise AccessError."""
        try:
            parts = urlsplit(redirect.strip())
            if _place(parts) != _place(urlsplit(self.redirect_uri)):
                raise AccessError(
                    f"That is not the address of a redirect to {self.redirect_uri}: copy the whole address that the "
                    f"browser ends on. {_AGAIN}; if SmileBack redirects elsewhere, correct SMILEBACK_REDIRECT_URI."
                )
            return self._client.parse_request_uri_response(_as_https(parts), state=self._state)["code"]
        except MismatchingStateError:
            raise AccessError(
                "The answer belongs to another login than this one (its `state` differs): an older browser window, or "
                f"an address that somebody else made. {_AGAIN}, and open the address that it prints."
            ) from None
        except OAuth2Error as error:
            if error.error == "access_denied":
                raise AccessError(f"The access was denied in the browser. {_AGAIN} and choose to allow it.") from None
            words = ": ".join(filter(None, (error.error, error.description)))[:LONGEST_QUOTE]
            advice = ", with another SMILEBACK_SCOPE." if error.error == "invalid_scope" else "."
            raise AccessError(f"SmileBack's answer is no permission ({words}). {_AGAIN}{advice}") from None
        except ValueError:
            raise AccessError(f"That cannot be read as an address. {_AGAIN}.") from None


def _as_https(url: SplitResult) -> str:
    """oauthlib refuses plain HTTP altogether; the settings accept it for loopback alone."""
    return url._replace(scheme="https").geturl()


def _place(url: SplitResult) -> tuple[str, str | None, int | None, str]:
    """An address without what redirecting adds to it."""
    port = url.port or {"https": 443, "http": 80}.get(url.scheme)
    return url.scheme, url.hostname, port, url.path or "/"


def is_on_loopback(uri: str) -> bool:
    """Whether a browser on this machine can be received there; production redirect URIs are HTTPS."""
    parts = urlsplit(uri)
    return parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS


@contextmanager
def receiving_redirects(uri: str, deliver: Callable[[str], None]) -> Iterator[None]:
    """Listen on the loopback address of a redirect URI; `deliver` hears each address that a browser comes to there.

    Raises OSError if the port cannot be had.
    """
    parts = urlsplit(uri)

    class Handler(http.server.BaseHTTPRequestHandler):
        # Browsers open connections that they may never use.
        timeout = _IDLE_CONNECTION_SECONDS

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if (asked.path or "/") != (parts.path or "/") or not asked.query:
                self.send_error(404)
                return
            page = _PAGE.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.send_header("Cache-Control", "no-store")
            # The address has the code in it.
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(page)
            deliver(parts._replace(query=asked.query).geturl())

        def log_message(self, format: str, *arguments: object) -> None:
            """The address has the code in it: nothing is logged."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        address_family = socket.AF_INET6 if parts.hostname == "::1" else socket.AF_INET

    host = "::1" if parts.hostname == "::1" else "127.0.0.1"
    with Server((host, parts.port or 80), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="redirect", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>smileback-pipeline</title>
<style>body { font: 18px/1.5 system-ui, sans-serif; margin: 20vh auto; max-width: 32em; padding: 0 1em }</style>
<h1>Back to the terminal</h1>
<p>SmileBack's answer has arrived. The terminal says whether it worked; you can close this window.</p>
</html>
"""
