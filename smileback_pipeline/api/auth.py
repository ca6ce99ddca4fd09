"""Access: obtaining, renewing and attaching tokens. OAuth's messages are oauthlib's; this sends them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import httpx
import stamina
from oauthlib.oauth2 import LegacyApplicationClient, OAuth2Error

from smileback_pipeline.api.errors import AccessError, ApiError, TransientError, quoted
from smileback_pipeline.api.tokens import Token, TokenStore
from smileback_pipeline.settings import Settings

_DEFAULT_LIFETIME_SECONDS = 36_000


class TokenEndpoint:
    """`POST {base}/token/`, with the credentials in the form body as the vendor asks since v3.1."""

    def __init__(self, settings: Settings, http: httpx.Client) -> None:
        self._settings = settings
        self._http = http
        self._url = f"{settings.base_url.rstrip('/')}/token/"
        self._client = LegacyApplicationClient(settings.client_id, scope=settings.scope)
        self.account = f"{settings.base_url}|{settings.client_id}|{settings.username or ''}"

    def grant_by_password(self) -> Token:
        """Return a token for the configured user, or raise AccessError."""
        assert self._settings.username and self._settings.password
        body = self._client.prepare_request_body(
            self._settings.username,
            self._settings.password.get_secret_value(),
            include_client_id=True,
            client_secret=self._client_secret,
        )
        return self._post(body, "Logging in to SmileBack with the user's password")

    def renew(self, token: Token) -> Token:
        """Spend the refresh token, which is dead from then on, or raise AccessError."""
        body = self._client.prepare_refresh_body(
            refresh_token=token.refresh_token,
            client_id=self._settings.client_id,
            client_secret=self._client_secret,
        )
        return self._post(body, "Renewing the access to SmileBack")

    @property
    def _client_secret(self) -> str | None:
        secret = self._settings.client_secret
        return secret.get_secret_value() if secret else None

    def _post(self, body: str, doing: str) -> Token:
        try:
            response = self._http.post(
                self._url, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
            )
        except httpx.TransportError as error:
            raise TransientError(f"{doing}: no answer from {self._url} ({error or type(error).__name__}).") from None
        if response.status_code >= 500 or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise TransientError(f"{doing}: SmileBack answered HTTP {response.status_code}: {quoted(response)}")
        try:
            granted = self._client.parse_request_body_response(response.text, scope=self._settings.scope.split())
        except (OAuth2Error, ValueError, Warning) as error:
            # Only the server's error code and description: the body of a grant is a secret.
            if response.is_success:
                raise TransientError(f"{doing}: HTTP {response.status_code} without a usable token.") from None
            raise AccessError(
                f"{doing}: refused with HTTP {response.status_code}: {_words(error)}. "
                "Check SMILEBACK_CLIENT_ID, SMILEBACK_CLIENT_SECRET, SMILEBACK_USERNAME and SMILEBACK_PASSWORD, "
                "or run `smileback-pipeline connect` again."
            ) from None
        return Token(
            access_token=granted["access_token"],
            refresh_token=granted.get("refresh_token"),
            expires_at=time.time() + float(granted.get("expires_in") or _DEFAULT_LIFETIME_SECONDS),
            scope=str(granted.get("scope") or self._settings.scope),
            account=self.account,
        )


def _words(error: Exception) -> str:
    """OAuth's error code, and the description where the server gave one."""
    code, description = getattr(error, "error", None), getattr(error, "description", None)
    return ", ".join(dict.fromkeys(filter(None, (code, description)))) or "the answer is no token"


class BearerAuth(httpx.Auth):
    """Sends the access token, and renews it once when the server refuses it."""

    def __init__(self, settings: Settings, endpoint: TokenEndpoint, retrying: stamina.RetryingCaller) -> None:
        self._has_password = settings.grant == "password"
        self._endpoint = endpoint
        self._store = TokenStore(settings.token_path, endpoint.account)
        self._retrying = retrying
        self._token: Token | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Attach the token; on 401 renew it and send the request once more."""
        token = self._usable()
        request.headers["Authorization"] = f"Bearer {token.access_token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            token = self._renewed(token)
            request.headers["Authorization"] = f"Bearer {token.access_token}"
            yield request

    def _usable(self) -> Token:
        if self._token is None:
            self._token = self._store.load()
        if self._token is None or not self._token.is_fresh:
            self._token = self._renewed(self._token)
        return self._token

    def _renewed(self, spent: Token | None) -> Token:
        with self._store.locked():
            stored = self._store.load()
            # Another process may have renewed it while we waited for the lock.
            if stored and stored.is_fresh and (spent is None or stored.access_token != spent.access_token):
                self._token = stored
                return stored
            self._token = self._obtained(stored)
            self._store.save(self._token)
            return self._token

    def _obtained(self, stored: Token | None) -> Token:
        if stored and stored.refresh_token:
            try:
                return self._send(self._endpoint.renew, stored)
            except ApiError:
                # A refresh whose answer was lost has spent the token all the same; with a password there
                # is another way in, without it a human has to connect again.
                if not self._has_password:
                    raise
        if not self._has_password:
            raise AccessError(
                "There is no stored access to SmileBack for this client: run `smileback-pipeline connect`, "
                "or set SMILEBACK_USERNAME and SMILEBACK_PASSWORD."
            )
        return self._send(self._endpoint.grant_by_password)

    def _send(self, ask: Callable[..., Token], *arguments: Token) -> Token:
        return self._retrying(TransientError, ask, *arguments)
