"""Access: obtaining, renewing, revoking and attaching tokens."""

from __future__ import annotations

import time
from typing import Annotated, Literal
from urllib.parse import urlencode

import httpx
import msgspec
from oauthlib.oauth2 import LegacyApplicationClient, WebApplicationClient

from smileback_pipeline.api.errors import LONGEST_QUOTE, AccessError, TransientError, printable
from smileback_pipeline.api.tokens import Token, TokenStore
from smileback_pipeline.api.transport import Transport
from smileback_pipeline.settings import Settings

_DEFAULT_LIFETIME_SECONDS = 36_000
_CONNECT_AGAIN = "Run `smileback-pipeline connect` again."

# What can stand in a header.
_Secret = Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]+\Z")]


class _Granted(msgspec.Struct):
    access_token: _Secret
    refresh_token: _Secret | None = None
    expires_in: Annotated[int, msgspec.Meta(ge=0, le=10**10)] | None = None
    token_type: Annotated[str, msgspec.Meta(pattern=r"\A(?i:bearer)\Z")] = "Bearer"
    # The server may grant less or more than was asked for; SmileBack has been seen to.
    scope: str | None = None


class _Refused(msgspec.Struct):
    error: str
    error_description: str | None = None


class TokenEndpoint:
    """`POST {base}/token/` and `/revoke/`, with all credentials in the form body as the vendor asks since v3.1.

    Methods that ask for a token raise AccessError where it is refused, or where what answers is no token endpoint, and
    TransientError where another try may help.
    """

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport
        self._base_url = settings.base_url.rstrip("/")
        self._client_secret = settings.client_secret.get_secret_value() if settings.client_secret else None

    def grant_by_password(self) -> Token:
        """Return a token for the configured user."""
        assert self._settings.username and self._settings.password
        form = LegacyApplicationClient(self._settings.client_id).prepare_request_body(
            self._settings.username,
            self._settings.password.get_secret_value(),
            scope=self._settings.scope,
            include_client_id=True,
            client_secret=self._client_secret,
        )
        return self._grant(
            form,
            "password",
            "Logging in to SmileBack with the user's password",
            "Check SMILEBACK_USERNAME and SMILEBACK_PASSWORD; it must be a local user, not a single-sign-on one.",
        )

    def grant_by_code(self, code: str, redirect_uri: str, code_verifier: str) -> Token:
        """Return the token that a redirect's code stands for."""
        form = WebApplicationClient(self._settings.client_id).prepare_request_body(
            code, redirect_uri, code_verifier=code_verifier, client_secret=self._client_secret
        )
        return self._grant(
            form,
            "authorization_code",
            "Exchanging the code from the browser for a token",
            "A code is good once, and for about a minute; and SMILEBACK_REDIRECT_URI has to be registered for this "
            f"client to the letter. {_CONNECT_AGAIN}",
        )

    def renew(self, token: Token) -> Token:
        """Spend the refresh token, which is dead from then on."""
        form = WebApplicationClient(self._settings.client_id).prepare_refresh_body(
            refresh_token=token.refresh_token, client_id=self._settings.client_id, client_secret=self._client_secret
        )
        return self._grant(
            form,
            token.grant,
            "Renewing the access to SmileBack",
            f"The access was revoked in SmileBack, or renewed from another place. {_CONNECT_AGAIN}",
        )

    def revoke(self, token: Token) -> None:
        """Make both tokens worthless, or raise ApiError where the server does not confirm that."""
        for hint in ("refresh_token", "access_token"):
            secret = getattr(token, hint)
            if not secret:
                continue
            fields = {"token": secret, "token_type_hint": hint, "client_id": token.client_id}
            form = urlencode(fields | ({"client_secret": self._client_secret} if self._client_secret else {}))
            self._asked(f"{self._base_url}/revoke/", form, "Revoking the access to SmileBack", "")

    def _grant(self, form: str, grant: Literal["password", "authorization_code"], doing: str, advice: str) -> Token:
        response = self._asked(f"{self._base_url}/token/", form, doing, advice)
        try:
            granted = msgspec.json.decode(response.content, type=_Granted, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise TransientError(f"{doing}: HTTP 200 without a usable token.") from None
        lifetime = _DEFAULT_LIFETIME_SECONDS if granted.expires_in is None else granted.expires_in
        return Token(
            access_token=granted.access_token,
            refresh_token=granted.refresh_token,
            expires_at=time.time() + lifetime,
            scope=printable(granted.scope or self._settings.scope)[:LONGEST_QUOTE],
            grant=grant,
            server=self._settings.base_url,
            client_id=self._settings.client_id or "",
            username=self._settings.username,
        )

    def _asked(self, url: str, form: str, doing: str, advice: str) -> httpx.Response:
        """The answer if it is 200. Bodies stay unquoted, but for OAuth's own words: they may hold anything."""
        response = self._transport.post_form(url, doing, form)
        status = response.status_code
        if status == httpx.codes.OK:
            return response
        if status >= 500 or status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT):
            raise TransientError(f"{doing}: {url} answered HTTP {status}.")
        try:
            refused = msgspec.json.decode(response.content, type=_Refused)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AccessError(
                f"{doing}: {url} answered HTTP {status}, not as a token endpoint does; check SMILEBACK_BASE_URL."
            ) from None
        if refused.error == "invalid_client":
            advice = "Check SMILEBACK_CLIENT_ID and SMILEBACK_CLIENT_SECRET."
        elif refused.error == "invalid_scope":
            advice = "Check SMILEBACK_SCOPE."
        words = ": ".join(filter(None, (refused.error, refused.error_description)))[:LONGEST_QUOTE]
        raise AccessError(f"{doing}: refused ({words}). {advice}")


class Access:
    """The access token, from the store or newly obtained, as every request needs it."""

    def __init__(self, settings: Settings, endpoint: TokenEndpoint) -> None:
        self._has_password = settings.grant == "password"
        self._endpoint = endpoint
        self._store = TokenStore(settings)
        self._token: Token | None = None

    def token(self) -> Token:
        """Return a token that should be good; raises ApiError if there is no way to one."""
        if self._token is None:
            self._token = self._store.load()
        if self._token is None or not self._token.is_fresh:
            self._token = self.renewed(self._token)
        return self._token

    def renewed(self, spent: Token | None) -> Token:
        """Return another token than the one that the server has refused; raises ApiError if there is no way to one."""
        with self._store.locked():
            stored = self._store.load()
            # Another process may have renewed it while we waited for the lock.
            if stored and stored.is_fresh and (spent is None or stored.access_token != spent.access_token):
                self._token = stored
                return stored
            obtained = self._obtained(stored)
            self._store.save(obtained)
            self._token = obtained
            return obtained

    def _obtained(self, stored: Token | None) -> Token:
        if stored and stored.refresh_token:
            try:
                return self._endpoint.renew(stored)
            except AccessError:
                # Revoked, or spent by a renewal whose answer was lost. With a password there is another way in;
                # without it a human has to connect again.
                if not self._has_password:
                    raise
        if not self._has_password:
            raise AccessError(
                "There is no stored access to SmileBack for this client: run `smileback-pipeline connect`, "
                "or set SMILEBACK_USERNAME and SMILEBACK_PASSWORD."
            )
        return self._endpoint.grant_by_password()
