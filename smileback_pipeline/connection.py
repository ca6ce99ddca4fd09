"""Connecting an account by a login in the browser, and disconnecting it."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import filelock
import httpx
import stamina

from smileback_pipeline.api.auth import TokenEndpoint
from smileback_pipeline.api.authorization import AuthorizationRequest, is_on_loopback, receiving_redirects
from smileback_pipeline.api.client import Patience, SmileBackClient
from smileback_pipeline.api.errors import AccessError, ApiError, RefusedError, TransientError, quoted
from smileback_pipeline.api.tokens import Token, TokenStore
from smileback_pipeline.api.transport import Transport
from smileback_pipeline.endpoints import NPS_RESPONSES, PRJ_RESPONSES, REVIEWS
from smileback_pipeline.settings import ConfigurationError, Settings

Say = Callable[[str], None]

_PATIENCE = Patience(attempts=3)


def connect(settings: Settings, say: Say, *, timeout_seconds: float, opens_browser: bool) -> None:
    """Log in through the browser, store the tokens, and say which data they give access to.

    Raises ConfigurationError, and ApiError whose message says what became of the login.
    """
    _require_client(settings)
    if not settings.redirect_uri:
        raise ConfigurationError(
            "SMILEBACK_REDIRECT_URI is not set: set it to the redirect URI that is registered with SmileBack for this "
            "client, e.g. http://127.0.0.1:8765/callback on the machine of the browser, or your HTTPS address."
        )
    store = TokenStore(settings)
    request = AuthorizationRequest(settings)
    with contextlib.closing(Transport(_PATIENCE.bounds)) as transport:
        _refuse_unknown_request(transport, request)
        redirect = _redirect(request, say, timeout_seconds=timeout_seconds, opens_browser=opens_browser)
        code = request.code_in(redirect)
        with store.locked():
            endpoint = TokenEndpoint(settings, transport)
            store.save(endpoint.grant_by_code(code, request.redirect_uri, request.code_verifier))
    say(f"Connected. The tokens are {_whereabouts(settings)}; `smileback-pipeline disconnect` revokes them.")
    if settings.grant == "password":
        say("SMILEBACK_USERNAME and SMILEBACK_PASSWORD are set as well: they are used when this login ends.")
    try:
        say(f"SmileBack shows this account {describe_access(settings, say)}.")
    except ApiError as error:
        raise AccessError(f"The login worked, but a first request did not. {error}") from None


def describe_access(settings: Settings, say: Say = lambda words: None) -> str:
    """Ask SmileBack how much there is to read, in three requests; raises ApiError."""

    def wait(seconds: float) -> None:
        say(f"Waiting {seconds:.0f} s for SmileBack's request quota.")

    with SmileBackClient(settings, patience=_PATIENCE, on_wait=wait) as client:
        counts = (
            (client.fetch_page(endpoint, since=None, offset=0, limit=1).count, what)
            for endpoint, what in (
                (REVIEWS, "reviews"),
                (NPS_RESPONSES, "NPS responses"),
                (PRJ_RESPONSES, "project responses"),
            )
        )
        reviews, responses, projects = (f"{count:,} {what}" for count, what in counts)
    return f"{reviews}, {responses} and {projects}"


def disconnect(settings: Settings, say: Say) -> None:
    """Revoke the stored tokens and forget them. Raises ApiError if SmileBack could not be told."""
    store = TokenStore(settings)
    failure: ApiError | None = None
    with store.locked():
        token = store.load_any()
        if token:
            try:
                _revoke(settings, token)
            except ApiError as error:
                failure = error
        # Whoever disconnects wants no access to be left on this machine, also when the network is away.
        store.forget()
    if failure:
        raise AccessError(
            f"The tokens are removed from this machine, but SmileBack could not be told. {failure} They are of no use "
            "to anyone without a copy; to be sure, end the integration in SmileBack's settings."
        )
    say("Disconnected: the tokens are revoked and forgotten." if token else "There is no stored login to disconnect.")
    if settings.grant == "password":
        say("SMILEBACK_USERNAME and SMILEBACK_PASSWORD are still set: the next sync logs in with them again.")


def _revoke(settings: Settings, token: Token) -> None:
    if not token.is_of_client(settings):
        raise AccessError(
            f"They belong to the client {token.client_id} at {token.server}, which is not the one that is configured."
        )
    with contextlib.closing(Transport(_PATIENCE.bounds)) as transport:
        endpoint = TokenEndpoint(settings, transport)
        stamina.RetryingCaller(attempts=3, timeout=None)(TransientError, endpoint.revoke, token)


def local_files(settings: Settings) -> list[Path]:
    """The files that hold a copy of SmileBack's data, of those that exist."""
    databases = (settings.duckdb_path, settings.analytics_path)
    files = [path for database in databases for path in (database, Path(f"{database}.wal"))]
    return [path for path in (*files, settings.scorecard_path) if path.exists()]


def purge(settings: Settings, say: Say) -> None:
    """Remove the replicated data; raises AccessError while a sync is writing it."""
    lock = filelock.FileLock(f"{settings.duckdb_path}.lock", timeout=0)
    try:
        with lock:
            for path in local_files(settings):
                path.unlink()
                say(f"Removed {path}")
    except filelock.Timeout:
        raise AccessError(f"A sync is using {settings.duckdb_path}; try again when it is over.") from None


def _require_client(settings: Settings) -> None:
    if missing := [name for name in ("client_id", "client_secret") if not getattr(settings, name)]:
        variables = " and ".join(f"SMILEBACK_{name.upper()}" for name in missing)
        raise ConfigurationError(
            f"Set {variables} in the environment or in .env; they are on SmileBack's API-credentials page."
        )


def _refuse_unknown_request(transport: Transport, request: AuthorizationRequest) -> None:
    """Say at once what the browser would show as an error page, which never comes back here."""
    try:
        answer = transport.get(request.url, "Asking for SmileBack's login page")
    except (TransientError, RefusedError):
        # The browser may have another way there.
        return
    if answer.status_code == httpx.codes.BAD_REQUEST:
        raise AccessError(
            f"SmileBack refuses to ask for the access: {quoted(answer)} Check SMILEBACK_CLIENT_ID, and that "
            f"SMILEBACK_REDIRECT_URI ({request.redirect_uri}) is registered for it to the letter."
        )
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise RefusedError(f"There is no login page at {request.url.partition('?')[0]}: check SMILEBACK_AUTHORIZE_URL.")


def _redirect(request: AuthorizationRequest, say: Say, *, timeout_seconds: float, opens_browser: bool) -> str:
    """The address that the browser was sent back to: received on loopback, or pasted."""
    arrived: queue.Queue[str | None] = queue.Queue()
    with contextlib.ExitStack() as stack:
        is_listening = is_on_loopback(request.redirect_uri)
        if is_listening:
            try:
                stack.enter_context(receiving_redirects(request.redirect_uri, arrived.put))
            except OSError as error:
                say(f"Nothing can be received at {request.redirect_uri} ({error.strerror or error}).")
                is_listening = False
        say(f"Open this address in a browser, and allow the access:\n\n  {request.url}\n")
        if is_listening:
            say(
                f"Waiting for the browser to come back to {request.redirect_uri}. If it runs on another machine, it "
                "ends on a page that does not load: paste the address of that page here."
            )
        else:
            say(f"It ends on {request.redirect_uri}. Paste the whole address of that page here.")
        threading.Thread(target=_read_pasted, args=(arrived, not is_listening), name="paste", daemon=True).start()
        if opens_browser and _has_browser():
            threading.Thread(target=webbrowser.open, args=(request.url,), name="browser", daemon=True).start()
        try:
            redirect = arrived.get(timeout=timeout_seconds)
        except queue.Empty:
            raise AccessError(
                f"No answer came from the browser within {timeout_seconds:.0f} s. Nothing was changed. If the window "
                "was closed, run `smileback-pipeline connect` again. If SmileBack showed an error, check that "
                f"SMILEBACK_REDIRECT_URI ({request.redirect_uri}) is registered for this client to the letter."
            ) from None
    if redirect is None:
        raise AccessError("No address was pasted. Nothing was changed. Run `smileback-pipeline connect` again.")
    return redirect


def _read_pasted(arrived: queue.Queue[str | None], is_only_way: bool) -> None:
    try:
        # Unbuffered, since a buffered reader that still waits would keep the interpreter from ending.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as lines:
            for line in lines:
                if text := line.decode(errors="replace").strip():
                    arrived.put(text)
                    return
    except (OSError, ValueError, AttributeError):
        # There is no standard input.
        pass
    if is_only_way:
        arrived.put(None)


def _has_browser() -> bool:
    """Whether a browser would open where the person sits; one inside the terminal would be in the way."""
    if "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform != "linux" or bool({"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


def _whereabouts(settings: Settings) -> str:
    store = TokenStore(settings)
    return f"{store}" if settings.token_store == "keyring" else f"in {store}, which only you can read"
