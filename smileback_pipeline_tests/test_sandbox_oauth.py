"""The sandbox's authorization server over HTTP: grants, rotation, revocation, consent, and each refusal."""

import base64
import hashlib
import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest

from smileback_pipeline.sandbox import Account, Sandbox, World, running_sandbox
from smileback_pipeline_tests.test_sandbox_lists import Clock

HTTP = httpx.Client(verify=False)  # loading certificates takes longer than most of these tests
CALLBACK = "http://127.0.0.1:8765/callback"
CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-client-secret"}
PASSWORD = CLIENT | {"grant_type": "password", "username": "analyst@msp.example", "password": "sandbox-password"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    with running_sandbox(World.empty(now=datetime(2026, 1, 1, tzinfo=UTC)), expires_in=600, clock=clock) as sandbox:
        yield sandbox


def post(sandbox: Sandbox, form: dict[str, str], path: str = "token", **options: Any) -> httpx.Response:
    return HTTP.post(f"{sandbox.base_url}/{path}/", data=form, **options)


def reads(sandbox: Sandbox, token: dict[str, Any]) -> str:
    """Whether data is given for the access token: "yes", or why not."""
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    answer = HTTP.get(f"{sandbox.base_url}/v3/csat-boards/", headers=headers)
    return "yes" if answer.status_code == 200 else answer.headers["www-authenticate"].split('"')[-2]


def refresh(sandbox: Sandbox, token: dict[str, Any]) -> httpx.Response:
    return post(sandbox, CLIENT | {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]})


# The password grant


def test_the_password_grant_gives_a_pair_of_tokens(sandbox: Sandbox) -> None:
    answer = post(sandbox, PASSWORD)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()
    assert list(token) == ["access_token", "expires_in", "token_type", "scope", "refresh_token"]
    assert (token["expires_in"], token["token_type"], token["scope"]) == (600, "Bearer", "read")
    assert reads(sandbox, token) == "yes"


def test_the_client_may_authenticate_by_http_basic(sandbox: Sandbox) -> None:
    form = {name: value for name, value in PASSWORD.items() if name not in CLIENT}
    assert post(sandbox, form, auth=tuple(CLIENT.values())).status_code == 200
    assert post(sandbox, form, auth=("sandbox-client", "wrong")).json() == {"error": "invalid_client"}
    assert post(sandbox, form, headers={"Authorization": "Basic %%%"}).status_code == 401


def test_a_second_password_grant_leaves_the_first_alive(sandbox: Sandbox) -> None:
    first, second = post(sandbox, PASSWORD).json(), post(sandbox, PASSWORD).json()
    assert reads(sandbox, first) == reads(sandbox, second) == "yes"


@pytest.mark.parametrize(
    ("change", "status", "body"),
    [
        ({"password": "wrong"}, 400, {"error": "invalid_grant", "error_description": "Invalid credentials given."}),
        ({"username": "who"}, 400, {"error": "invalid_grant", "error_description": "Invalid credentials given."}),
        (
            {"username": ""},
            400,
            {"error": "invalid_request", "error_description": "Request is missing username parameter."},
        ),
        ({"client_secret": "wrong"}, 401, {"error": "invalid_client"}),
        ({"client_id": ""}, 401, {"error": "invalid_client"}),
        ({"grant_type": "implicit"}, 400, {"error": "unsupported_grant_type"}),
        ({"grant_type": ""}, 400, {"error": "unsupported_grant_type"}),
        ({"scope": "read write"}, 400, {"error": "invalid_scope"}),
    ],
)
def test_a_bad_request_for_a_token_is_refused(
    sandbox: Sandbox, change: dict[str, str], status: int, body: dict[str, str]
) -> None:
    answer = post(sandbox, PASSWORD | change)
    assert (answer.status_code, answer.json()) == (status, body)


def test_credentials_are_read_from_the_form_body_alone(sandbox: Sandbox) -> None:
    assert HTTP.post(f"{sandbox.base_url}/token/", params=PASSWORD).json()["error"] == "invalid_request"
    assert HTTP.post(f"{sandbox.base_url}/token/", json=PASSWORD).json() == {"error": "invalid_client"}
    assert HTTP.get(f"{sandbox.base_url}/token/").status_code == 405


def test_more_scopes_may_be_asked_for(sandbox: Sandbox) -> None:
    assert post(sandbox, PASSWORD | {"scope": "read read_recent"}).json()["scope"] == "read read_recent"


# Life and death of tokens


def test_an_access_token_expires_and_says_so(sandbox: Sandbox, clock: Clock) -> None:
    token = post(sandbox, PASSWORD).json()
    clock.seconds += 599
    assert reads(sandbox, token) == "yes"
    clock.seconds += 1
    assert reads(sandbox, token) == "The access token has expired."
    assert reads(sandbox, refresh(sandbox, token).json()) == "yes"


def test_a_refresh_rotates_both_tokens(sandbox: Sandbox) -> None:
    old = post(sandbox, PASSWORD | {"scope": "read read_recent"}).json()
    new = refresh(sandbox, old).json()
    assert new["scope"] == "read read_recent"
    assert reads(sandbox, new) == "yes"
    assert reads(sandbox, old) == "The access token is invalid."
    again = refresh(sandbox, old)
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})
    assert reads(sandbox, new) == "yes"


def test_revoking_a_refresh_token_ends_its_access_token(sandbox: Sandbox) -> None:
    token = post(sandbox, PASSWORD).json()
    answer = post(sandbox, CLIENT | {"token": token["refresh_token"]}, "revoke")
    assert (answer.status_code, answer.content) == (200, b"")
    assert reads(sandbox, token) == "The access token is invalid."
    assert refresh(sandbox, token).status_code == 400


def test_revoking_an_access_token_leaves_the_refresh_token(sandbox: Sandbox) -> None:
    token = post(sandbox, PASSWORD).json()
    post(sandbox, CLIENT | {"token": token["access_token"]}, "revoke")
    assert reads(sandbox, token) == "The access token is invalid."
    assert refresh(sandbox, token).status_code == 200


def test_revoking_what_does_not_exist_succeeds_for_a_known_client(sandbox: Sandbox) -> None:
    assert post(sandbox, CLIENT | {"token": "nothing"}, "revoke").status_code == 200
    assert post(sandbox, {"token": "nothing"}, "revoke").status_code == 401


def test_tokens_can_be_made_to_expire_or_be_revoked_at_once(sandbox: Sandbox) -> None:
    token = post(sandbox, PASSWORD).json()
    sandbox.oauth.expire_access_tokens()
    assert reads(sandbox, token) == "The access token has expired."
    token = refresh(sandbox, token).json()
    sandbox.oauth.revoke_all_tokens()
    assert reads(sandbox, token) == "The access token is invalid."
    assert refresh(sandbox, token).json() == {"error": "invalid_grant"}


# The authorization code grant


def consent(sandbox: Sandbox, button: str = "allow", **change: str | None) -> httpx.Response:
    """Ask for the page, and press a button on it."""
    asked = {
        "response_type": "code",
        "client_id": "sandbox-client",
        "redirect_uri": CALLBACK,
        "state": "s p&ace",
    } | change
    query = {name: value for name, value in asked.items() if value is not None}
    shown = HTTP.get(sandbox.authorize_url, params=query)
    if shown.status_code != 200:
        return shown
    assert "analyst@msp.example" in shown.text
    fields = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', shown.text)
    form = {name: html.unescape(value) for name, value in fields}
    return HTTP.post(shown.url, data=form | ({"allow": "Allow"} if button == "allow" else {}))


def exchange(sandbox: Sandbox, code: str, **change: str) -> httpx.Response:
    form = CLIENT | {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK} | change
    return post(sandbox, form)


def answer_of(redirect: httpx.Response) -> dict[str, str]:
    assert redirect.status_code == 302
    return dict(parse_qsl(urlsplit(redirect.headers["location"]).query))


def test_consent_leads_to_a_code_and_the_code_to_tokens(sandbox: Sandbox) -> None:
    redirect = consent(sandbox, scope="read")
    assert redirect.headers["location"].startswith(f"{CALLBACK}?")
    given = answer_of(redirect)
    assert given["state"] == "s p&ace"
    token = exchange(sandbox, given["code"]).json()
    assert reads(sandbox, token) == "yes"


def test_a_code_works_once(sandbox: Sandbox) -> None:
    code = answer_of(consent(sandbox))["code"]
    assert exchange(sandbox, code).status_code == 200
    assert exchange(sandbox, code).json() == {"error": "invalid_grant"}


def test_a_code_expires_after_a_minute(sandbox: Sandbox, clock: Clock) -> None:
    code = answer_of(consent(sandbox))["code"]
    clock.seconds += 60
    assert exchange(sandbox, code).json() == {"error": "invalid_grant"}


def test_a_denied_consent_comes_back_as_an_error(sandbox: Sandbox) -> None:
    assert answer_of(consent(sandbox, "deny")) == {"error": "access_denied", "state": "s p&ace"}


def test_without_a_state_none_comes_back(sandbox: Sandbox) -> None:
    assert set(answer_of(consent(sandbox, state=None))) == {"code"}


def test_the_redirect_uri_must_be_a_registered_one(sandbox: Sandbox) -> None:
    refusal = consent(sandbox, redirect_uri="https://elsewhere.example.com/callback")
    assert refusal.status_code == 400
    assert "Mismatching redirect URI" in refusal.text
    assert "location" not in refusal.headers
    assert consent(sandbox, client_id="who").status_code == 400
    assert consent(sandbox, redirect_uri="https://integration.example.com/callback").status_code == 302
    assert consent(sandbox, redirect_uri="http://127.0.0.1:49152/callback").status_code == 302  # any port of loopback
    assert consent(sandbox, redirect_uri="http://127.0.0.1:8765/other").status_code == 400


def test_the_exchange_must_name_the_same_redirect_uri(sandbox: Sandbox) -> None:
    code = answer_of(consent(sandbox))["code"]
    refusal = exchange(sandbox, code, redirect_uri="http://127.0.0.1:1/callback")
    assert refusal.json() == {"error": "invalid_request", "error_description": "Mismatching redirect URI."}


@pytest.mark.parametrize(("verifier", "status"), [("v" * 50, 200), ("w" * 50, 400), ("", 400)])
def test_a_proof_key_is_checked(sandbox: Sandbox, verifier: str, status: int) -> None:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 50).digest()).decode().rstrip("=")
    code = answer_of(consent(sandbox, code_challenge=challenge, code_challenge_method="S256"))["code"]
    answer = exchange(sandbox, code, **({"code_verifier": verifier} if verifier else {}))
    assert answer.status_code == status
    if status == 400:
        assert answer.json() == {"error": "invalid_grant"}


def test_what_else_is_wrong_with_a_request_comes_back_as_an_error(sandbox: Sandbox) -> None:
    assert answer_of(consent(sandbox, response_type="token"))["error"] == "unsupported_response_type"
    assert answer_of(consent(sandbox, scope="write"))["error"] == "invalid_scope"
    assert answer_of(consent(sandbox, code_challenge="x", code_challenge_method="MD5"))["error"] == "invalid_request"


def test_the_account_can_be_another() -> None:
    account = Account(client_id="acme", redirect_uris=("https://acme.example.com/in?from=smileback",))
    with running_sandbox(World.empty(), account=account) as sandbox:
        redirect = consent(sandbox, client_id="acme", redirect_uri=account.redirect_uris[0])
        query = parse_qs(urlsplit(redirect.headers["location"]).query)
        assert query["from"] == ["smileback"]
        assert query["code"]
