"""Secrets: after syncs that went well and syncs that went wrong, they are in the token store and nowhere else."""

import contextlib
import json
import sqlite3
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import duckdb
import orjson
import pytest
from starlette.responses import Response

from smileback_pipeline.automation.jobs import SYNC_JOB
from smileback_pipeline.sandbox import Account, Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import FOREVER, Action, Exchange, Proceed, call, rewrite
from smileback_pipeline.settings import PROJECT_ROOT
from smileback_pipeline_tests.dagster_home import create_dagster_home
from smileback_pipeline_tests.terminal import Terminal

# The cores stay as they are, however the characters around them are escaped.
SECRET_CORE, PASSWORD_CORE = "5ecr3tC0re", "pa55w0rdC0re"
ACCOUNT = Account(client_secret=f"<{SECRET_CORE}&+%'\">", password=f"ü {PASSWORD_CORE}/\\&=")


@dataclass
class Machine:
    """A machine on which syncs were run; whatever they wrote is in `places`."""

    places: list[Path]
    tokens: Path
    outputs: dict[str, subprocess.CompletedProcess[str]]
    issued: list[dict[str, Any]]

    @property
    def secrets(self) -> set[bytes]:
        tokens = {answer[kind] for answer in self.issued for kind in ("access_token", "refresh_token")}
        return {secret.encode() for secret in {SECRET_CORE, PASSWORD_CORE} | tokens}

    def files(self) -> list[Path]:
        return [path for place in self.places for path in sorted(place.rglob("*")) if path.is_file()]

    def holding(self, word: bytes) -> set[Path]:
        return {path for path in self.files() if any(word in content for content in contents(path))}


def contents(path: Path) -> Iterator[bytes]:
    """What a file holds: its bytes, and what a database in it keeps compressed."""
    yield path.read_bytes()
    with path.open("rb") as file:
        head = file.read(16)
    if head == b"SQLite format 3\0":
        with contextlib.closing(sqlite3.connect(path)) as database:
            for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                for row in database.execute(f'select * from "{table}"'):
                    for value in row:
                        if isinstance(value, bytes):
                            with contextlib.suppress(zlib.error):
                                yield zlib.decompress(value)
    elif head[8:12] == b"DUCK":
        with contextlib.closing(duckdb.connect(path, read_only=True)) as connection:
            tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
            for schema, table in tables:
                for row in connection.execute(f'select t::varchar from "{schema}"."{table}" as t').fetchall():
                    yield row[0].encode()


def echo(status: int) -> Action:
    """What a debugging server or a proxy on the way may do: fail, and show all that it was sent."""

    async def action(exchange: Exchange, proceed: Proceed) -> Response:
        body = (await exchange.request.body()).decode()
        said = f"{exchange.request.url} {dict(exchange.request.headers)} {body} {parse_qsl(body)}"
        if exchange.endpoint == "token":
            return Response(orjson.dumps({"error": "invalid_grant", "error_description": said}), status)
        return Response(said, status)

    return action


def sync_as_the_ui_does(terminal: Terminal) -> subprocess.CompletedProcess[str]:
    dagster = Path(sys.executable).with_name("dagster")
    tags = json.dumps({"dagster/partition": datetime.now(UTC).date().isoformat()})
    return subprocess.run(
        [dagster, "job", "execute", "-m", "smileback_pipeline.definitions", "-j", SYNC_JOB, "--tags", tags],
        env=terminal.environment(),
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("machine")
    home = create_dagster_home(directory)
    (directory / "tmp").mkdir()
    variables = {"DAGSTER_HOME": str(home), "HOME": str(directory), "TMPDIR": str(directory / "tmp")}
    issued: list[dict[str, Any]] = []

    def note(answer: dict[str, Any]) -> dict[str, Any]:
        issued.extend([answer] if "access_token" in answer else [])
        return answer

    def expire(sandbox: Sandbox) -> None:
        sandbox.oauth.expire_access_tokens()

    with running_sandbox(World(scale=0.01), account=ACCOUNT) as sandbox:
        terminal = Terminal(sandbox, directory, variables)
        sandbox.faults.add("token", rewrite(note), times=FOREVER)
        outputs = {}
        sandbox.faults.add("nps-responses", echo(500), times=2)
        sandbox.faults.add("nps-responses", echo(403), after=2)
        outputs["one list fails"] = terminal.run("sync")
        sandbox.faults.add("nps-responses", call(expire))
        outputs["a token expires"] = terminal.run("sync")
        sandbox.oauth.revoke_all_tokens()
        sandbox.faults.add("token", echo(400), times=FOREVER)
        outputs["no token is to be had"] = sync_as_the_ui_does(terminal)
        outputs["status"] = terminal.run("status", "--check", "--json")
    for name, output in outputs.items():
        (directory / f"{name}.txt").write_text(output.stdout + output.stderr)
    places = [directory, PROJECT_ROOT / "dbt_project" / "target", PROJECT_ROOT / "dbt_project" / "logs"]
    yield Machine(places, terminal.tokens, outputs, issued)


def test_the_syncs_went_as_they_were_meant_to(machine: Machine) -> None:
    """Else the search below would prove nothing."""
    status = {name: output.returncode for name, output in machine.outputs.items()}
    said = {name: output.stdout + output.stderr for name, output in machine.outputs.items()}
    assert status == {"one list fails": 1, "a token expires": 0, "no token is to be had": 1, "status": 1}, said
    assert "SmileBack answered HTTP 403" in said["one list fails"]
    assert "[secret]" in said["one list fails"]
    assert "invalid_grant" in said["no token is to be had"]
    assert len(machine.issued) == 2


def test_the_search_looks_into_everything_that_is_written(machine: Machine) -> None:
    kinds = {path.name for path in machine.holding(b"SMILEBACK_PASSWORD")}
    assert "runs.db" in kinds  # the reference to the variable, in the compressed snapshot of the job
    assert any(path.name.endswith((".out", ".err")) for path in machine.files())  # compute logs
    said = {path.name for path in machine.holding(b"[secret]")}
    assert "one list fails.txt" in said
    assert any(path.suffix == ".db" for path in machine.holding(b"[secret]"))  # the event log
    assert {"warehouse.duckdb", "analytics.duckdb"} <= {path.name for path in machine.holding(b"net_csat")}


def test_secrets_are_in_the_token_store_and_nowhere_else(machine: Machine) -> None:
    found = {path for secret in machine.secrets for path in machine.holding(secret)}
    assert found <= {machine.tokens}
    assert machine.holding(machine.issued[-1]["refresh_token"].encode()) == {machine.tokens}
    assert stat.S_IMODE(machine.tokens.stat().st_mode) == 0o600
