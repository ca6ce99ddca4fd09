"""A real Postgres server for a test, where there is a binary of one."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smileback_pipeline_tests.terminal import free_port

PASSWORD = "p@ss:w/rd"  # what a URL would have to quote


@contextlib.contextmanager
def running_postgres() -> Iterator[dict[str, str]]:
    """The variables by which the containers reach their database, of one with an empty `dagster` in it."""
    binaries = _binaries()
    if not binaries:
        pytest.skip("No Postgres server is installed: apt-get install postgresql.")
    with tempfile.TemporaryDirectory(prefix="postgres") as name:
        directory = Path(name)
        run = ["env", "-C", name]
        if os.geteuid() == 0:
            # Postgres refuses to run as root.
            try:
                shutil.chown(directory, pwd.getpwnam("postgres").pw_uid)
            except KeyError:
                pytest.skip("Postgres does not run as root, and there is no user postgres.")
            run = ["runuser", "-u", "postgres", "--", *run]
        data, port = directory / "data", free_port()
        secret = directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)

        def execute(tool: str, *arguments: str) -> None:
            subprocess.run([*run, str(binaries / tool), *arguments], check=True, stdout=subprocess.DEVNULL, timeout=120)

        execute(
            "initdb", "-D", str(data), "-U", "dagster", "--pwfile", str(secret), "-A", "scram-sha-256", "-E", "utf8"
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {directory} -c fsync=off"
        execute("pg_ctl", "-D", str(data), "-o", options, "-l", str(directory / "log"), "-w", "start")
        try:
            environment = {**os.environ, "PGPASSWORD": PASSWORD}
            create = [str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "dagster", "dagster"]
            subprocess.run(create, check=True, env=environment, timeout=60)
            yield {
                "DAGSTER_POSTGRES_HOST": "127.0.0.1",
                "DAGSTER_POSTGRES_PORT": str(port),
                "DAGSTER_POSTGRES_USER": "dagster",
                "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
                "DAGSTER_POSTGRES_DB": "dagster",
            }
        finally:
            execute("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


def _binaries() -> Path | None:
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)
