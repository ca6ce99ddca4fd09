"""Tokens: kept durably, renewed once, shared by processes, and never used for another account."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smileback_pipeline.api import quota
from smileback_pipeline.api.client import Patience, SmileBackClient
from smileback_pipeline.api.errors import AccessError, TransientError
from smileback_pipeline.api.tokens import Token, TokenStore
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, call, reset, respond, rewrite
from smileback_pipeline.settings import Settings, validated_settings
from smileback_pipeline_tests.terminal import COMMAND, Terminal

PATIENCE = Patience(attempts=2, first_wait_seconds=0)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(World.empty()) as sandbox:
        yield sandbox


@pytest.fixture
def settings(sandbox: Sandbox, tmp_path: Path) -> Settings:
    return settings_of(sandbox, tmp_path)


def settings_of(sandbox: Sandbox, directory: Path, **changes: Any) -> Settings:
    given = {
        "base_url": sandbox.base_url,
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "username": sandbox.username,
        "password": sandbox.password,
        "requests_per_minute": 0,
        "token_path": directory / "tokens.json",
    }
    return validated_settings(**(given | changes))


def fetch(settings: Settings) -> None:
    with SmileBackClient(settings, patience=PATIENCE) as client:
        client.fetch_page(REVIEWS, since=None, offset=0, limit=1)


def without_password(settings: Settings) -> Settings:
    """The settings of somebody who connected as the same user."""
    return settings.model_copy(update={"password": None})


def stored(settings: Settings) -> dict[str, Any]:
    return json.loads(settings.token_path.read_text())


def renewals(sandbox: Sandbox) -> int:
    return len(sandbox.requests.to("token"))


def a_token(settings: Settings, **changes: Any) -> Token:
    given: dict[str, Any] = {
        "access_token": "an-access-token",
        "refresh_token": "a-refresh-token",
        "expires_at": time.time() + 36_000,
        "scope": "read",
        "grant": "authorization_code",
        "server": settings.base_url,
        "client_id": settings.client_id,
        "username": settings.username,
    }
    return Token(**(given | changes))


# Keeping them


def test_tokens_are_for_their_owner_alone_whatever_the_umask(settings: Settings) -> None:
    before = os.umask(0)
    try:
        fetch(settings)
    finally:
        os.umask(before)
    for path in (settings.token_path, Path(f"{settings.token_path}.lock")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(path.name for path in settings.token_path.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_a_renewed_token_is_stored_before_it_is_used(sandbox: Sandbox, settings: Settings) -> None:
    """The old pair is dead by then: a crash between renewing and storing would lock the pipeline out."""
    fetch(settings)
    sandbox.oauth.expire_access_tokens()
    before = stored(settings)
    seen = []
    sandbox.faults.add("reviews", call(lambda sandbox: seen.append(stored(settings))), times=FOREVER)
    fetch(settings)
    refused, accepted = seen
    assert refused == before
    assert accepted["refresh_token"] != before["refresh_token"]
    assert accepted == stored(settings)
    assert sandbox.oauth.refusal(f"Bearer {accepted['access_token']}") is None


def test_a_token_that_cannot_be_stored_is_not_used(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    settings = settings_of(sandbox, tmp_path, token_path=tmp_path / "file" / "tokens.json")
    with pytest.raises(AccessError, match=r"token store .* cannot be"):
        fetch(settings)
    assert not sandbox.requests.to("reviews")


_KILLED_WHILE_WRITING = """
import os, sys
from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.settings import validated_settings

os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
with SmileBackClient(validated_settings(token_path=sys.argv[1])) as client:
    client.fetch_page(REVIEWS, since=None, offset=0)
"""


@pytest.mark.parametrize("then", ["a sync", "a disconnect"])
def test_a_kill_while_a_renewed_token_is_written_asks_nobody_and_leaves_no_secret_behind(
    sandbox: Sandbox, tmp_path: Path, then: str
) -> None:
    """SmileBack has rotated the pair by then, and the new one was in a file that nobody would look for."""
    settings = settings_of(sandbox, tmp_path)
    fetch(settings)
    sandbox.oauth.expire_access_tokens()
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_WHILE_WRITING, str(settings.token_path)],
        env={**os.environ, **sandbox.environment(), "XDG_STATE_HOME": str(tmp_path)},
    )
    assert killed.returncode == -signal.SIGKILL
    assert [request.status for request in sandbox.requests.to("token")] == [200, 200]
    if then == "a sync":
        fetch(settings)
        assert [request.status for request in sandbox.requests.to("token")] == [200, 200, 400, 200]
        left = ["tokens.json", "tokens.json.lock"]
    else:
        TokenStore(settings).forget()
        left = ["tokens.json.lock"]
    assert sorted(path.name for path in tmp_path.glob("*tokens*")) == left


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"access_token": 7}', b"null"])
def test_what_is_no_token_is_replaced_by_one(settings: Settings, content: bytes) -> None:
    settings.token_path.write_bytes(content)
    fetch(settings)
    assert stored(settings)["grant"] == "password"


def test_a_token_shows_no_secret_when_it_is_printed(settings: Settings) -> None:
    for shown in (repr(a_token(settings)), str(a_token(settings)), f"{a_token(settings)}"):
        assert "an-access-token" not in shown
        assert "a-refresh-token" not in shown


# Renewing them


def test_a_stored_token_is_used_by_the_next_run(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    fetch(settings)
    assert renewals(sandbox) == 1


def test_a_token_about_to_expire_is_renewed_before_it_is_refused(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    token = TokenStore(settings).load()
    assert token
    TokenStore(settings).save(a_token(settings, refresh_token=token.refresh_token, expires_at=time.time() + 30))
    fetch(settings)
    assert [request.status for request in sandbox.requests.to("reviews")] == [200, 200]
    assert renewals(sandbox) == 2


def test_an_expired_token_costs_one_refused_request_and_one_renewal(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    sandbox.oauth.expire_access_tokens()
    fetch(without_password(settings))
    assert [request.status for request in sandbox.requests.to("reviews")] == [200, 401, 200]
    assert renewals(sandbox) == 2


def test_a_token_that_expires_during_a_wait_for_the_quota_costs_one_refused_request(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(quota, "_WINDOW_MILLISECONDS", 200)
    settings = settings_of(sandbox, tmp_path, requests_per_minute=1)
    waits = []

    def expire_at_first(seconds: float) -> None:
        if not waits:
            sandbox.oauth.expire_access_tokens()
        waits.append(seconds)

    with SmileBackClient(settings, on_wait=expire_at_first) as client:
        for _ in range(3):
            client.fetch_page(REVIEWS, since=None, offset=0)
    assert [request.status for request in sandbox.requests.to("reviews")] == [200, 401, 200, 200]
    assert [request.status for request in sandbox.requests.to("token")] == [200, 200]
    assert len(waits) >= 3, "a request that is repeated with a new token counts as well"


def test_a_revoked_login_is_tried_once_and_then_a_person_is_asked(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    sandbox.oauth.revoke_all_tokens()
    with pytest.raises(AccessError, match=r"smileback-pipeline connect"):
        fetch(without_password(settings))
    assert [request.status for request in sandbox.requests.to("reviews")] == [200, 401]
    assert [request.status for request in sandbox.requests.to("token")] == [200, 400]


def test_a_revoked_login_falls_back_on_the_password(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    sandbox.oauth.revoke_all_tokens()
    fetch(settings)
    assert [request.status for request in sandbox.requests.to("token")] == [200, 400, 200]


def test_a_renewal_whose_answer_is_lost_falls_back_on_the_password(sandbox: Sandbox, settings: Settings) -> None:
    """SmileBack has rotated the tokens by then, so the second try is refused."""
    fetch(settings)
    sandbox.oauth.expire_access_tokens()
    sandbox.faults.add("token", reset(once_done=True))
    fetch(settings)
    assert [request.status for request in sandbox.requests.to("token")] == [200, 0, 400, 200]


def test_a_token_endpoint_that_is_down_for_a_moment_is_asked_again(sandbox: Sandbox, settings: Settings) -> None:
    sandbox.faults.add("token", respond(503))
    fetch(settings)
    assert [request.status for request in sandbox.requests.to("token")] == [503, 200]


def test_an_outage_spends_neither_the_login_nor_the_password(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    before = stored(settings)
    sandbox.oauth.expire_access_tokens()
    sandbox.faults.add("token", respond(503), times=FOREVER)
    with pytest.raises(TransientError, match="503"):
        fetch(without_password(settings))
    assert stored(settings) == before
    sandbox.faults.clear()
    fetch(without_password(settings))


def test_a_server_that_refuses_every_token_gets_no_storm_of_renewals(sandbox: Sandbox, settings: Settings) -> None:
    sandbox.faults.add("reviews", respond(401, {"detail": "No."}), times=FOREVER)
    with pytest.raises(AccessError):
        fetch(settings)
    assert len(sandbox.requests.to("reviews")) == 2
    assert renewals(sandbox) == 2


def test_a_token_without_a_refresh_token_is_replaced_by_the_password(sandbox: Sandbox, settings: Settings) -> None:
    def without_refresh_token(answer: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in answer.items() if name != "refresh_token"}

    sandbox.faults.add("token", rewrite(without_refresh_token))
    fetch(settings)
    sandbox.oauth.expire_access_tokens()
    fetch(settings)
    assert [request.status for request in sandbox.requests.to("token")] == [200, 200]


def test_a_scope_other_than_the_asked_one_is_taken_as_granted(sandbox: Sandbox, settings: Settings) -> None:
    sandbox.faults.add("token", rewrite(lambda answer: answer | {"scope": "read read_recent"}))
    fetch(settings)
    assert stored(settings)["scope"] == "read read_recent"


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "two\r\nX-Injected: lines"},
        {"access_token": ["a"]},
        {"expires_in": "soon"},
        {"expires_in": -1},
        {"expires_in": 10**12},
        {"token_type": "mac"},
    ],
)
def test_an_answer_that_is_no_usable_token_is_refused(
    sandbox: Sandbox, settings: Settings, changes: dict[str, Any]
) -> None:
    sandbox.faults.add("token", rewrite(lambda answer: answer | changes), times=FOREVER)
    with pytest.raises(TransientError, match="without a usable token"):
        fetch(settings)
    assert not settings.token_path.exists()


@pytest.mark.parametrize("answer", [b"", b"null", b"[]", b'"text"', b"<html>", b"access_token=a&token_type=bearer"])
@pytest.mark.parametrize("status", [200, 301, 400, 404])
def test_whatever_answers_in_place_of_the_token_endpoint_is_a_sentence(
    sandbox: Sandbox, settings: Settings, status: int, answer: bytes
) -> None:
    sandbox.faults.add("token", respond(status, answer, headers={"Location": "https://elsewhere.example"}), times=2)
    # A run that cannot log in asks for no other list, each of which would end the same way.
    with pytest.raises(TransientError if status == 200 else AccessError, match="Logging in to SmileBack"):
        fetch(settings)


# Sharing them


def test_processes_that_find_an_expired_token_renew_it_once(sandbox: Sandbox, tmp_path: Path) -> None:
    terminal = Terminal(sandbox, tmp_path)
    assert terminal.run("status", "--check").returncode == 0
    sandbox.oauth.expire_access_tokens()
    processes = [
        subprocess.Popen([COMMAND, "status", "--check"], env=terminal.environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert [request.status for request in sandbox.requests.to("token")] == [200, 200]


def test_threads_that_find_a_token_dead_renew_it_once(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    sandbox.oauth.expire_access_tokens()
    failures: list[Exception] = []

    def run() -> None:
        try:
            fetch(without_password(settings))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert renewals(sandbox) == 2


# Whose they are


def test_a_token_serves_the_account_that_it_was_obtained_for(settings: Settings) -> None:
    by_password, by_login = a_token(settings, grant="password"), a_token(settings)
    for token in (by_password, by_login):
        assert token.serves(settings)
        assert not token.serves(settings.model_copy(update={"base_url": "https://other.example/api"}))
        assert not token.serves(settings.model_copy(update={"client_id": "another"}))
        assert not token.serves(settings.model_copy(update={"username": "another@msp.example"}))


def test_a_login_serves_where_no_password_is_set_whatever_the_user_name(settings: Settings) -> None:
    """It says who consented in the browser; a user name without a password says nothing."""
    unnamed = a_token(settings, username=None)
    assert unnamed.serves(without_password(settings))
    assert a_token(settings).serves(settings.model_copy(update={"username": None, "password": None}))
    # A password that was set since is the newer word on whose data is meant.
    assert not unnamed.serves(settings)
    assert not a_token(settings, username=None, grant="password").serves(without_password(settings))


def test_another_user_never_gets_the_data_of_the_one_before(sandbox: Sandbox, settings: Settings) -> None:
    fetch(settings)
    other = settings.model_copy(update={"username": "other@msp.example"})
    with pytest.raises(AccessError, match="Invalid credentials given"):
        fetch(other)
    assert len(sandbox.requests.to("reviews")) == 1


# The keyring


@pytest.fixture
def with_keyring(sandbox: Sandbox, tmp_path: Path) -> Terminal:
    (tmp_path / "keyring").mkdir()
    return Terminal(
        sandbox,
        tmp_path,
        {
            "SMILEBACK_TOKEN_STORE": "keyring",
            "PYTHON_KEYRING_BACKEND": "smileback_pipeline_tests.file_keyring.FileKeyring",
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "FILE_KEYRING": str(tmp_path / "keyring"),
        },
    )


def test_the_keyring_keeps_the_tokens_where_it_is_asked_for(with_keyring: Terminal, sandbox: Sandbox) -> None:
    login = with_keyring.connecting()
    login.follow(login.consent())
    status, output = login.end()
    assert status == 0, output
    assert "in the keyring" in output
    assert not with_keyring.tokens.exists()
    no_password = {"SMILEBACK_PASSWORD": ""}
    assert with_keyring.run("status", "--check", **no_password).returncode == 0
    sandbox.oauth.expire_access_tokens()
    assert with_keyring.run("status", "--check", **no_password).returncode == 0
    disconnected = with_keyring.run("disconnect", **no_password)
    assert "revoked and forgotten" in disconnected.stdout
    assert list((with_keyring.directory / "keyring").iterdir()) == []
    again = with_keyring.run("disconnect", **no_password)
    assert (again.returncode, again.stdout) == (0, "There is no stored login to disconnect.\n")


def test_a_locked_keyring_is_a_sentence(with_keyring: Terminal) -> None:
    backend = "smileback_pipeline_tests.file_keyring.LockedKeyring"
    result = with_keyring.run("status", "--check", PYTHON_KEYRING_BACKEND=backend)
    assert result.returncode == 1
    assert "The collection is locked." in result.stdout
    assert "Traceback" not in result.stderr


def test_a_keyring_without_an_entry_says_how_to_connect(with_keyring: Terminal) -> None:
    result = with_keyring.run("status", "--check", SMILEBACK_PASSWORD="")
    assert result.returncode == 1
    assert "smileback-pipeline connect" in result.stdout
