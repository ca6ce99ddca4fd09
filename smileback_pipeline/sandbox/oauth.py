"""The sandbox's authorization server: grants, rotation and revocation, as django-oauth-toolkit does them."""

import base64
import binascii
import hashlib
import html
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

SCOPES = frozenset({"read", "read_recent"})
CODE_LIVES_SECONDS = 60
_NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True)
class Account:
    """The credentials that the sandbox accepts."""

    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-client-secret"
    username: str = "analyst@msp.example"
    password: str = "sandbox-password"
    # On loopback addresses the port does not matter (RFC 8252, section 7.3).
    redirect_uris: tuple[str, ...] = (
        "http://127.0.0.1:8765/callback",
        "https://integration.example.com/callback",
    )

    def registers(self, redirect_uri: str) -> bool:
        return any(_without_loopback_port(redirect_uri) == _without_loopback_port(own) for own in self.redirect_uris)


@dataclass
class _Grant:
    """An access token and the refresh token issued with it."""

    access_token: str
    refresh_token: str
    scope: str
    expires_at: float
    access_is_live: bool = True
    refresh_is_live: bool = True


@dataclass(frozen=True)
class _Code:
    redirect_uri: str
    scope: str
    challenge: str | None
    challenge_method: str
    expires_at: float


class OAuthError(Exception):
    def __init__(self, error: str, description: str | None = None, status: int = 400) -> None:
        self.body = {"error": error} | ({"error_description": description} if description else {})
        self.status = status


class AuthorizationServer:
    """`clock` is in seconds; only its differences matter."""

    def __init__(self, account: Account, expires_in: int, clock: Callable[[], float]) -> None:
        self.account, self.expires_in, self._clock = account, expires_in, clock
        self._grants: list[_Grant] = []
        self._by_access: dict[str, _Grant] = {}
        self._by_refresh: dict[str, _Grant] = {}
        self._codes: dict[str, _Code] = {}

    # Using tokens

    def refusal(self, authorization: str | None) -> str | None:
        """None if the header carries a good token, else the `WWW-Authenticate` of the 401."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return 'Bearer realm="api"'
        grant = self._by_access.get(token.strip())
        if grant is None or not grant.access_is_live:
            why = "The access token is invalid."
        elif grant.expires_at <= self._clock():
            why = "The access token has expired."
        else:
            return None
        return f'Bearer realm="api",error="invalid_token",error_description="{why}"'

    def expire_access_tokens(self) -> None:
        """All access tokens issued so far are expired from now on; their refresh tokens stay good."""
        for grant in self._grants:
            grant.expires_at = self._clock()

    def revoke_all_tokens(self) -> None:
        """As if somebody had disconnected the integration in SmileBack."""
        for grant in self._grants:
            grant.access_is_live = grant.refresh_is_live = False

    # Getting and giving them up

    def token(self, request: Request, form: dict[str, str]) -> Response:
        try:
            if request.url.query:
                raise OAuthError("invalid_request", "URL query parameters are not allowed")
            self._check_client(request, form)
            grant = self._granted(form)
        except OAuthError as error:
            return _refused(error)
        body = {
            "access_token": grant.access_token,
            "expires_in": self.expires_in,
            "token_type": "Bearer",
            "scope": grant.scope,
            "refresh_token": grant.refresh_token,
        }
        return Response(orjson.dumps(body), headers=_NOT_STORED, media_type="application/json")

    def revoke(self, request: Request, form: dict[str, str]) -> Response:
        try:
            self._check_client(request, form)
        except OAuthError as error:
            return _refused(error)
        token = form.get("token", "")
        if grant := self._by_refresh.get(token):
            grant.access_is_live = grant.refresh_is_live = False
        elif grant := self._by_access.get(token):
            grant.access_is_live = False
        return Response(b"")

    def _check_client(self, request: Request, form: dict[str, str]) -> None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                client_id, secret = "", ""
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if (client_id, secret) != (self.account.client_id, self.account.client_secret):
            raise OAuthError("invalid_client", status=401)

    def _granted(self, form: dict[str, str]) -> _Grant:
        match form.get("grant_type"):
            case "password":
                return self._by_password(form)
            case "authorization_code":
                return self._by_code(form)
            case "refresh_token":
                return self._by_refreshing(form)
            case _:
                raise OAuthError("unsupported_grant_type")

    def _by_password(self, form: dict[str, str]) -> _Grant:
        for name in ("username", "password"):
            if not form.get(name):
                raise OAuthError("invalid_request", f"Request is missing {name} parameter.")
        if (form["username"], form["password"]) != (self.account.username, self.account.password):
            raise OAuthError("invalid_grant", "Invalid credentials given.")
        return self._issue(_scope(form.get("scope")))

    def _by_code(self, form: dict[str, str]) -> _Grant:
        if not form.get("code"):
            raise OAuthError("invalid_request", "Missing code parameter.")
        code = self._codes.pop(form["code"], None)
        if code is None or code.expires_at <= self._clock():
            raise OAuthError("invalid_grant")
        if form.get("redirect_uri") != code.redirect_uri:
            raise OAuthError("invalid_request", "Mismatching redirect URI.")
        if code.challenge is not None and code.challenge != _challenge(
            form.get("code_verifier", ""), code.challenge_method
        ):
            raise OAuthError("invalid_grant")
        return self._issue(code.scope)

    def _by_refreshing(self, form: dict[str, str]) -> _Grant:
        if not form.get("refresh_token"):
            raise OAuthError("invalid_request", "Missing refresh token parameter.")
        old = self._by_refresh.get(form["refresh_token"])
        if old is None or not old.refresh_is_live:
            raise OAuthError("invalid_grant")
        old.access_is_live = old.refresh_is_live = False
        return self._issue(old.scope)

    def _issue(self, scope: str) -> _Grant:
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        grant = _Grant(access, refresh, scope, self._clock() + self.expires_in)
        self._grants.append(grant)
        self._by_access[access] = self._by_refresh[refresh] = grant
        return grant

    # The page on which a person consents

    def authorize(self, request: Request, form: dict[str, str]) -> Response:
        asked = dict(request.query_params) | form
        redirect_uri, state = asked.get("redirect_uri", ""), asked.get("state")
        if asked.get("client_id") != self.account.client_id:
            return _page("Error: invalid_request", "<p>Invalid client_id parameter value.</p>", 400)
        if not self.account.registers(redirect_uri):
            return _page("Error: invalid_request", "<p>Mismatching redirect URI.</p>", 400)
        try:
            if asked.get("response_type") != "code":
                raise OAuthError("unsupported_response_type")
            scope = _scope(asked.get("scope"))
            method = asked.get("code_challenge_method", "plain")
            if method not in ("S256", "plain"):
                raise OAuthError("invalid_request", "Transform algorithm not supported.")
            if request.method == "GET":
                return _consent_page(asked, self.account.username, scope)
            if "allow" not in form:
                raise OAuthError("access_denied")
        except OAuthError as error:
            return _redirect(redirect_uri, error.body, state)
        code = secrets.token_urlsafe(16)
        self._codes[code] = _Code(
            redirect_uri, scope, asked.get("code_challenge"), method, self._clock() + CODE_LIVES_SECONDS
        )
        return _redirect(redirect_uri, {"code": code}, state)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form body. Another type of body has none, so that credentials sent as JSON fail."""
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("application/x-www-form-urlencoded"):
        return {}
    return dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))


def _scope(asked: str | None) -> str:
    scopes = (asked or "read").split()
    if not SCOPES.issuperset(scopes):
        raise OAuthError("invalid_scope")
    return " ".join(scopes)


def _challenge(verifier: str, method: str) -> str:
    if method == "plain":
        return verifier
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _without_loopback_port(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1"):
        return parts._replace(netloc=parts.hostname).geturl()
    return uri


def _refused(error: OAuthError) -> Response:
    headers = dict(_NOT_STORED)
    if error.status == 401:
        headers["WWW-Authenticate"] = f'Bearer error="{error.body["error"]}"'
    return Response(orjson.dumps(error.body), error.status, headers, "application/json")


def _redirect(uri: str, answer: dict[str, str], state: str | None) -> Response:
    query = urlencode(answer | ({"state": state} if state is not None else {}), quote_via=quote)
    return RedirectResponse(f"{uri}{'&' if urlsplit(uri).query else '?'}{query}", 302)


def _consent_page(asked: dict[str, str], username: str, scope: str) -> Response:
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in asked.items()
    )
    return _page(
        "Authorize this integration?",
        f"<p>Signed in as {html.escape(username)}. The integration asks for: <b>{html.escape(scope)}</b>.</p>"
        f'<form method="post">{hidden}<button name="allow" value="Allow">Allow</button> '
        "<button>Deny</button></form>",
    )


def _page(title: str, content: str, status: int = 200) -> Response:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} - SmileBack sandbox</title>'
        f"<h1>{title}</h1>{content}</html>",
        status,
    )
