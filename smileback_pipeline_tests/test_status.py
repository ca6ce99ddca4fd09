"""`status`: what is connected, what is replicated, how fresh, and what is pending, without asking anybody."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smileback_pipeline import status as reading
from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import ENDPOINTS
from smileback_pipeline.replica.publishing import publish
from smileback_pipeline.replica.state import clear_pending_days, pending_days
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.replication import replicate
from smileback_pipeline.sandbox import World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, respond
from smileback_pipeline.settings import Settings, validated_settings
from smileback_pipeline_tests.terminal import Terminal

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    world = World.empty()
    for number, rating in ((1, 1), (2, -1), (3, 7)):  # 7 cannot be right
        review = {"id": number, "rating": rating, "rated_on": f"2026-03-0{number}T12:00:00Z"}
        world.put("reviews", review | {"last_modified": "2026-03-05T12:00:00Z"})
    world.put("nps-responses", {"id": 1, "score": 9, "created_at": "2026-03-09T12:00:00Z"})
    with running_sandbox(world) as sandbox:
        yield Terminal(sandbox, tmp_path)


def settings_of(terminal: Terminal) -> Settings:
    given = {
        name.removeprefix("SMILEBACK_").lower(): value
        for name, value in terminal.environment().items()
        if name.startswith("SMILEBACK_")
    }
    return validated_settings(**given)


def replicated(terminal: Terminal) -> Settings:
    """A replica of the account whose marts have not been built."""
    settings = settings_of(terminal)
    with SmileBackClient(settings) as client:
        for endpoint in ENDPOINTS:
            replicate(endpoint, client, Warehouse(settings.duckdb_path), settings)
    return settings


def status_json(terminal: Terminal, *arguments: str, **variables: str) -> dict[str, Any]:
    result = terminal.run("status", "--json", *arguments, **variables)
    return json.loads(result.stdout)


def test_before_anything_it_says_what_is_missing_and_asks_nobody(terminal: Terminal) -> None:
    result = terminal.run("status", SMILEBACK_USERNAME="", SMILEBACK_PASSWORD="")
    assert result.returncode == 0, result.stderr
    assert "not connected" in result.stdout
    assert "SMILEBACK_USERNAME, SMILEBACK_PASSWORD" in result.stdout
    assert "Nothing has been replicated yet" in result.stdout
    assert len(terminal.sandbox.requests) == 0
    assert not list(terminal.directory.glob("*.duckdb"))


def test_with_a_password_it_says_whose_and_that_a_sync_obtains_a_token(terminal: Terminal) -> None:
    output = terminal.run("status").stdout
    assert f"as {terminal.sandbox.username}, with the password" in output
    assert "none yet; the next sync obtains one" in output


def test_what_is_replicated_pending_and_set_aside_is_counted(terminal: Terminal) -> None:
    replicated(terminal)
    asked = len(terminal.sandbox.requests)
    found = status_json(terminal)
    assert len(terminal.sandbox.requests) == asked
    tables = {table["endpoint"]: table for table in found["replica"]}
    assert list(tables) == [endpoint.name for endpoint in ENDPOINTS]
    assert (tables["reviews"]["rows"], tables["reviews"]["set_aside"]) == (2, 1)
    assert (tables["nps_responses"]["rows"], tables["nps_responses"]["set_aside"]) == (1, 0)
    assert tables["reviews"]["watermark"] == "2026-03-05T11:55:00Z"  # the newest stamp less the lookback
    synced_at = datetime.fromisoformat(tables["reviews"]["synced_at"])
    assert timedelta(0) <= datetime.now(UTC) - synced_at < timedelta(minutes=5)
    # Days of rating 1 and 2 of March, of the change of both on the 5th, and of the response on the 9th.
    assert found["pending_days"] == 4
    assert found["is_behind"] is True
    assert found["published_at"] is None
    assert found["connection"]["grant"] == "password"
    assert found["problem"] is None


def test_what_is_published_is_dated(terminal: Terminal) -> None:
    settings = replicated(terminal)
    warehouse = Warehouse(settings.duckdb_path)
    with warehouse.connect() as connection:
        clear_pending_days(connection, pending_days(connection))
    publish(warehouse, settings.analytics_path)
    found = status_json(terminal)
    assert found["pending_days"] == 0
    published_at = datetime.fromtimestamp(settings.analytics_path.stat().st_mtime, UTC)
    assert datetime.fromisoformat(found["published_at"]) == published_at
    text = terminal.run("status").stdout
    assert f"published   {settings.analytics_path}, less than a minute ago" in text
    # The replica knows that nobody has built and published its changes.
    assert "changes that are not published yet" in text


def test_a_person_reads_the_same_as_a_machine(terminal: Terminal) -> None:
    replicated(terminal)
    lines = terminal.run("status").stdout.splitlines()
    [reviews] = [line for line in lines if line.startswith("reviews")]
    assert reviews.split()[:3] == ["reviews", "2", "1"]
    assert "pending     the marts of 4 days; the next sync rebuilds them" in lines
    assert any("see replica.rejected_records" in line for line in lines)


def test_no_secret_is_shown(terminal: Terminal) -> None:
    replicated(terminal)
    tokens = json.loads(terminal.tokens.read_text())
    for arguments in (["status"], ["status", "--json"], ["status", "--json", "--check"]):
        result = terminal.run(*arguments)
        for secret in (
            tokens["access_token"],
            tokens["refresh_token"],
            terminal.sandbox.password,
            terminal.sandbox.client_secret,
        ):
            assert secret not in result.stdout + result.stderr


def test_a_check_asks_smileback(terminal: Terminal) -> None:
    found = status_json(terminal, "--check")["connection"]
    assert found["is_answered"] is True
    assert "3 reviews, 1 NPS responses" in found["check"]
    assert found["token_expires_at"]


def test_a_check_that_fails_is_exit_status_1_and_still_json(terminal: Terminal) -> None:
    terminal.sandbox.faults.add("reviews", respond(503), times=FOREVER)
    result = terminal.run("status", "--json", "--check")
    assert result.returncode == 1
    found = json.loads(result.stdout)["connection"]
    assert found["is_answered"] is False
    assert "HTTP 503" in found["check"]


def test_a_login_that_ran_out_is_said_so(terminal: Terminal) -> None:
    with SmileBackClient(settings_of(terminal)) as client:
        client.fetch_page(ENDPOINTS[0], since=None, offset=0)
    token = json.loads(terminal.tokens.read_text())
    changed = token | {"expires_at": datetime.now(UTC).timestamp() - 7250, "grant": "authorization_code"}
    terminal.tokens.write_text(json.dumps(changed))
    text = terminal.run("status", SMILEBACK_PASSWORD="").stdout
    assert "by a login in the browser" in text
    assert "expired 2 hours ago, renewed by itself" in text
    terminal.tokens.write_text(json.dumps(changed | {"refresh_token": None}))
    assert "expired 2 hours ago, cannot be renewed" in terminal.run("status", SMILEBACK_PASSWORD="").stdout


def test_a_warehouse_that_cannot_be_read_is_said_so(
    terminal: Terminal,
) -> None:
    settings = settings_of(terminal)
    settings.duckdb_path.write_bytes(b"this is no database" * 1000)
    found = reading.read_status(settings)
    assert found.problem
    assert "cannot be opened" in found.problem
    assert found.connection.grant == "password"
    assert found.problem in "\n".join(reading.lines(found, NOW))


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (NOW, "less than a minute ago"),
        (NOW - timedelta(seconds=59), "less than a minute ago"),
        (NOW - timedelta(seconds=60), "1 minute ago"),
        (NOW - timedelta(minutes=119), "119 minutes ago"),
        (NOW - timedelta(hours=2), "2 hours ago"),
        (NOW - timedelta(hours=47), "47 hours ago"),
        (NOW - timedelta(days=3, hours=5), "3 days ago"),
        (NOW + timedelta(hours=10), "in 10 hours"),
        (NOW + timedelta(seconds=5), "in less than a minute"),
    ],
)
def test_how_long_ago_is_said_in_the_largest_unit_that_is_there_twice(moment: datetime, words: str) -> None:
    assert reading.distance(moment, NOW) == words


def test_the_published_file_keeps_who_may_read_it(terminal: Terminal) -> None:
    settings = replicated(terminal)
    warehouse = Warehouse(settings.duckdb_path)
    publish(warehouse, settings.analytics_path)
    assert settings.duckdb_path.stat().st_mode & 0o777 == 0o600
    assert settings.analytics_path.stat().st_mode & 0o777 == 0o600
    settings.analytics_path.chmod(0o644)
    publish(warehouse, settings.analytics_path)
    assert settings.analytics_path.stat().st_mode & 0o777 == 0o644
    with duckdb.connect(settings.analytics_path, read_only=True) as connection:
        assert connection.execute("select count(*) from replica.reviews").fetchall() == [(2,)]
