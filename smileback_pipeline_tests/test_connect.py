"""`connect` and `disconnect` as processes, with a person at a browser, against SmileBack's authorization server."""

import json
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from smileback_pipeline.sandbox import World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, respond
from smileback_pipeline_tests.terminal import Terminal, free_port

NO_PASSWORD = {"SMILEBACK_USERNAME": "", "SMILEBACK_PASSWORD": ""}


@pytest.fixture
def world() -> World:
    world = World.empty()
    for number, endpoint, stamp in (
        (1, "reviews", "last_modified"),
        (2, "reviews", "last_modified"),
        (3, "nps-responses", "created_at"),
    ):
        world.put(endpoint, {"id": number, stamp: "2026-03-01T12:00:00Z"})
    return world


@pytest.fixture
def terminal(world: World, tmp_path: Path) -> Iterator[Terminal]:
    with running_sandbox(world) as sandbox:
        yield Terminal(sandbox, tmp_path, dict(NO_PASSWORD))


def connected(terminal: Terminal, **variables: str) -> str:
    """What a successful `connect` prints."""
    login = terminal.connecting(**variables)
    login.follow(login.consent())
    status, output = login.end()
    assert status == 0, output
    return output


def stored(terminal: Terminal) -> dict[str, str]:
    return json.loads(terminal.tokens.read_text())


def test_a_login_in_the_browser_stores_tokens_that_work_and_says_which_data_it_sees(terminal: Terminal) -> None:
    login = terminal.connecting()
    page = login.follow(login.consent())
    status, output = login.end()
    assert status == 0
    assert "Back to the terminal" in page.text
    assert "SmileBack shows this account 2 reviews, 1 NPS responses and 0 project responses." in output
    assert stat.S_IMODE(terminal.tokens.stat().st_mode) == 0o600
    assert [request.query for request in terminal.sandbox.requests.to("token")] == [{}]


def test_the_request_carries_state_and_pkce_and_the_code_is_worthless_without_the_verifier(terminal: Terminal) -> None:
    login = terminal.connecting()
    asked = parse_qs(urlsplit(login.url).query)
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert len(asked["state"][0]) >= 32
    redirect = login.consent()
    stolen = {
        "grant_type": "authorization_code",
        "code": parse_qs(urlsplit(redirect).query)["code"][0],
        "redirect_uri": asked["redirect_uri"][0],
        "client_id": terminal.sandbox.client_id,
        "client_secret": terminal.sandbox.client_secret,
    }
    answer = httpx.post(f"{terminal.sandbox.base_url}/token/", data=stolen)
    assert answer.json() == {"error": "invalid_grant"}
    login.interrupt()
    login.end()


def test_over_ssh_the_address_is_pasted(terminal: Terminal) -> None:
    """The browser is on another machine, where the redirect to loopback finds nobody."""
    login = terminal.connecting(SSH_CONNECTION="192.0.2.1 50000 192.0.2.2 22")
    login.paste(login.consent())
    status, output = login.end()
    assert status == 0, output
    assert "Connected" in output


def test_an_https_redirect_uri_is_pasted(terminal: Terminal) -> None:
    login = terminal.connecting(SMILEBACK_REDIRECT_URI="https://integration.example.com/callback")
    assert "Paste the whole address" in login.output
    login.paste(login.consent())
    status, output = login.end()
    assert status == 0, output


def test_the_browser_is_opened_where_there_is_one(terminal: Terminal) -> None:
    browser = terminal.directory / "browser.py"
    browser.write_text(
        "import sys, httpx\n"
        "answer = httpx.post(sys.argv[1], data={'allow': 'Allow'})\n"
        "httpx.get(answer.headers['Location'])\n"
    )
    result = terminal.run("connect", "--timeout", "60", BROWSER=f"{sys.executable} {browser} %s")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Connected" in result.stdout


def test_a_denied_access_is_said_so(terminal: Terminal) -> None:
    login = terminal.connecting()
    login.follow(login.deny())
    status, output = login.end()
    assert status == 1
    assert "The access was denied in the browser" in output
    assert not terminal.tokens.exists()


def test_an_answer_with_another_state_is_refused(terminal: Terminal) -> None:
    """Else somebody could make us fetch the data of an account of theirs."""
    login = terminal.connecting()
    login.follow(login.consent(state="of-an-attacker"))
    status, output = login.end()
    assert status == 1
    assert "belongs to another login" in output
    assert not terminal.sandbox.requests.to("token")
    assert not terminal.tokens.exists()


def test_an_answer_without_a_state_is_refused(terminal: Terminal) -> None:
    login = terminal.connecting()
    redirect = urlsplit(login.consent())
    login.follow(redirect._replace(query=f"code={parse_qs(redirect.query)['code'][0]}").geturl())
    status, output = login.end()
    assert (status, "belongs to another login" in output) == (1, True)


def test_a_code_that_was_used_already_is_said_so(terminal: Terminal) -> None:
    login = terminal.connecting()
    redirect = login.consent()
    spent = parse_qs(urlsplit(redirect).query)["code"][0]
    httpx.post(
        f"{terminal.sandbox.base_url}/token/",
        data={
            "grant_type": "authorization_code",
            "code": spent,
            "client_id": terminal.sandbox.client_id,
            "client_secret": terminal.sandbox.client_secret,
        },
    )
    login.follow(redirect)
    status, output = login.end()
    assert status == 1
    assert "A code is good once, and for about a minute" in output
    assert spent not in output
    assert not terminal.tokens.exists()


def test_an_expired_code_is_said_so(world: World, tmp_path: Path) -> None:
    now = [0.0]
    with running_sandbox(world, clock=lambda: now[0]) as sandbox:
        terminal = Terminal(sandbox, tmp_path, NO_PASSWORD)
        login = terminal.connecting()
        redirect = login.consent()
        now[0] += 61
        login.follow(redirect)
        status, output = login.end()
    assert status == 1
    assert "for about a minute" in output


def test_a_redirect_uri_that_is_not_registered_is_said_so_before_the_browser_is_needed(terminal: Terminal) -> None:
    result = terminal.run("connect", SMILEBACK_REDIRECT_URI="https://elsewhere.example.com/callback")
    assert result.returncode == 1
    assert "SMILEBACK_REDIRECT_URI (https://elsewhere.example.com/callback) is registered" in result.stderr


def test_a_pasted_address_of_another_place_is_said_so(terminal: Terminal) -> None:
    login = terminal.connecting(SMILEBACK_REDIRECT_URI="https://integration.example.com/callback")
    login.paste(login.consent().replace("integration", "phishing"))
    status, output = login.end()
    assert status == 1
    assert "not the address of a redirect to https://integration.example.com/callback" in output


def test_a_closed_browser_ends_the_waiting(terminal: Terminal) -> None:
    login = terminal.connecting("--timeout", "1")
    status, output = login.end()
    assert status == 1
    assert "No answer came from the browser within 1 s" in output


def test_nothing_pasted_is_said_so(terminal: Terminal) -> None:
    result = terminal.run("connect", SMILEBACK_REDIRECT_URI="https://integration.example.com/callback")
    assert result.returncode == 1
    assert "No address was pasted" in result.stderr


def test_where_the_port_is_taken_the_address_is_pasted(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        uri = f"http://127.0.0.1:{other.getsockname()[1]}/callback"
        login = terminal.connecting(SMILEBACK_REDIRECT_URI=uri)
        assert "Nothing can be received" in login.output
        login.paste(login.consent())
        status, output = login.end()
    assert status == 0, output


def test_the_listener_answers_on_its_path_alone_and_a_strangers_request_does_not_end_the_waiting(
    terminal: Terminal,
) -> None:
    port = free_port()
    login = terminal.connecting(SMILEBACK_REDIRECT_URI=f"http://127.0.0.1:{port}/callback")
    assert httpx.get(f"http://127.0.0.1:{port}/favicon.ico").status_code == 404
    assert httpx.get(f"http://127.0.0.1:{port}/callback").status_code == 404
    with socket.create_connection(("127.0.0.1", port)):  # says nothing, as browsers' spare connections do
        page = login.follow(login.consent())
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert login.end()[0] == 0


def test_the_listener_is_reachable_from_this_machine_alone(terminal: Terminal) -> None:
    port = free_port()
    login = terminal.connecting(SMILEBACK_REDIRECT_URI=f"http://127.0.0.1:{port}/callback")
    listening = {
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    login.interrupt()
    login.end()
    assert listening == {f"0100007F:{port:04X}"}


def test_ctrl_c_leaves_everything_as_it_was(terminal: Terminal) -> None:
    login = terminal.connecting()
    login.interrupt()
    status, output = login.end()
    assert status != 0
    assert "Traceback" not in output
    assert not terminal.tokens.exists()


@pytest.mark.parametrize(
    ("unset", "words"),
    [
        ("SMILEBACK_REDIRECT_URI", "SMILEBACK_REDIRECT_URI is not set"),
        ("SMILEBACK_CLIENT_ID", "Set SMILEBACK_CLIENT_ID"),
        ("SMILEBACK_CLIENT_SECRET", "Set SMILEBACK_CLIENT_SECRET"),
    ],
)
def test_what_connect_needs_is_named(terminal: Terminal, unset: str, words: str) -> None:
    result = terminal.run("connect", **{unset: ""})
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr


def test_a_wrong_client_secret_is_said_so_and_not_shown(terminal: Terminal) -> None:
    login = terminal.connecting(SMILEBACK_CLIENT_SECRET="wrong-secret")
    login.follow(login.consent())
    status, output = login.end()
    assert status == 1
    assert "Check SMILEBACK_CLIENT_ID and SMILEBACK_CLIENT_SECRET" in output
    assert "wrong-secret" not in output


def test_an_answer_that_was_made_for_a_terminal_is_shown_as_words(terminal: Terminal) -> None:
    evil = {"error": "invalid_grant", "error_description": "\x1b[2J\x1b]0;owned\x07\u202emoc.live[red]"}
    terminal.sandbox.faults.add("token", respond(400, evil))
    login = terminal.connecting()
    login.follow(login.consent())
    _, output = login.end()
    assert not {"\x1b", "\x07", "\u202e"} & set(output)
    assert "[red]" in output


def test_a_login_whose_first_request_fails_is_kept_and_said_so(terminal: Terminal) -> None:
    terminal.sandbox.faults.add("reviews", respond(403, {"detail": "No permission."}), times=FOREVER)
    login = terminal.connecting()
    login.follow(login.consent())
    status, output = login.end()
    assert status == 1
    assert "The login worked, but a first request did not" in output
    assert "No permission." in output
    assert stored(terminal)["access_token"]


def test_disconnect_revokes_both_tokens_forgets_them_and_keeps_the_data(terminal: Terminal) -> None:
    connected(terminal)
    tokens = stored(terminal)
    data = terminal.directory / "warehouse.duckdb"
    data.write_bytes(b"some data")
    result = terminal.run("disconnect")
    assert result.returncode == 0, result.stderr
    assert "revoked and forgotten" in result.stdout
    assert f"The replicated data stays in {data}" in result.stdout
    assert data.read_bytes() == b"some data"
    assert not terminal.tokens.exists()
    assert len(terminal.sandbox.requests.to("revoke")) == 2
    assert terminal.sandbox.oauth.refusal(f"Bearer {tokens['access_token']}")
    renewal = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    client = {"client_id": terminal.sandbox.client_id, "client_secret": terminal.sandbox.client_secret}
    assert httpx.post(f"{terminal.sandbox.base_url}/token/", data=renewal | client).status_code == 400


def test_after_disconnecting_a_sync_says_how_to_connect(terminal: Terminal) -> None:
    connected(terminal)
    terminal.run("disconnect")
    result = terminal.run("sync")
    assert result.returncode == 2
    assert "smileback-pipeline connect" in result.stderr


def test_disconnecting_without_a_login_says_so(terminal: Terminal) -> None:
    result = terminal.run("disconnect")
    assert (result.returncode, result.stdout) == (0, "There is no stored login to disconnect.\n")


def test_a_smileback_that_cannot_be_told_leaves_no_token_here(terminal: Terminal) -> None:
    connected(terminal)
    terminal.sandbox.faults.add("revoke", respond(403), times=FOREVER)
    result = terminal.run("disconnect")
    assert result.returncode == 1
    assert "SmileBack could not be told" in result.stderr
    assert not terminal.tokens.exists()


def test_tokens_of_another_client_are_forgotten_and_never_sent(terminal: Terminal) -> None:
    connected(terminal)
    result = terminal.run("disconnect", SMILEBACK_CLIENT_ID="another")
    assert result.returncode == 1
    assert "belong to the client sandbox-client" in result.stderr
    assert not terminal.sandbox.requests.to("revoke")
    assert not terminal.tokens.exists()


def test_purging_asks_first(terminal: Terminal) -> None:
    connected(terminal)
    data = [terminal.directory / name for name in ("warehouse.duckdb", "warehouse.duckdb.wal", "analytics.duckdb")]
    for path in data:
        path.write_bytes(b"some data")
    refused = terminal.run("disconnect", "--purge", keyboard="n\n")
    assert refused.returncode == 1
    assert all(path.exists() for path in data)
    assert terminal.tokens.exists()
    agreed = terminal.run("disconnect", "--purge", keyboard="y\n")
    assert agreed.returncode == 0, agreed.stderr
    assert not any(path.exists() for path in data)
    assert not terminal.tokens.exists()


def test_a_login_is_used_where_a_password_is_configured_too_and_the_password_once_it_ends(terminal: Terminal) -> None:
    both = {"SMILEBACK_USERNAME": terminal.sandbox.username, "SMILEBACK_PASSWORD": terminal.sandbox.password}
    output = connected(terminal, **both)
    assert "are used when this login ends" in output
    assert terminal.run("status", "--check", **both).returncode == 0
    assert stored(terminal)["grant"] == "authorization_code"
    terminal.sandbox.oauth.revoke_all_tokens()
    assert terminal.run("status", "--check", **both).returncode == 0
    assert stored(terminal)["grant"] == "password"
    assert "the next sync logs in with them again" in terminal.run("disconnect", **both).stdout
