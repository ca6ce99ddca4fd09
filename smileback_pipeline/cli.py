"""The command line."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from smileback_pipeline import __version__
from smileback_pipeline.settings import PROJECT_ROOT, ConfigurationError, Settings, load_settings

SANDBOX_DIRECTORY = PROJECT_ROOT / "data" / "sandbox"
_CREDENTIALS = ("client_id", "client_secret", "username", "password")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """SmileBack customer feedback in a DuckDB file you own, with the scores computed."""


@cli.command()
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Read changes again from this day on.")
@click.option("--full", is_flag=True, help="Read everything again, and find what vanished without a trace.")
def sync(since: datetime | None, full: bool) -> None:
    """Replicate what changed in SmileBack, rebuild the days that it touched, publish."""
    settings = load_settings()
    settings.require_credentials()
    _sync(settings, since=since, full=full)


@cli.command()
def run() -> None:
    """Sync your account or, without credentials, the built-in sandbox."""
    settings = load_settings()
    if _has_account(settings):
        _sync(settings)
        return
    click.echo(
        "No SmileBack credentials in the environment or in .env: this is the built-in sandbox, an invented MSP.\n"
        f"Its data stays apart, in {SANDBOX_DIRECTORY.relative_to(PROJECT_ROOT)}/. For your own account copy "
        ".env.example to .env and fill it in.\n"
    )
    with _sandbox_account():
        _sync(load_settings())


@cli.command()
@click.option("--timeout", default=600, show_default=True, metavar="SECONDS", help="How long to wait for the browser.")
@click.option("--no-browser", is_flag=True, help="Only print the address to open.")
def connect(timeout: int, no_browser: bool) -> None:
    """Log in to SmileBack once, in the browser, and keep the tokens."""
    from smileback_pipeline import connection

    settings = load_settings()
    with _api_errors_as_sentences():
        connection.connect(settings, click.echo, timeout_seconds=timeout, opens_browser=not no_browser)


@cli.command()
@click.option("--purge", is_flag=True, help="Remove the replicated data as well, after a question.")
@click.option("--yes", is_flag=True, help="Answer that question.")
def disconnect(purge: bool, yes: bool) -> None:
    """Revoke the stored tokens and forget them; the replicated data stays."""
    from smileback_pipeline import connection

    settings = load_settings()
    files = connection.local_files(settings)
    if purge and files and not yes:
        listed = "\n".join(f"  {path}" for path in files)
        click.confirm(f"This removes the replicated data:\n{listed}\nGo on?", abort=True)
    with _api_errors_as_sentences():
        try:
            connection.disconnect(settings, click.echo)
        finally:
            if purge:
                connection.purge(settings, click.echo)
            elif files:
                click.echo(f"The replicated data stays in {' and '.join(map(str, files))}; --purge removes it.")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--check", is_flag=True, help="Ask SmileBack whether the access works; exit status 1 if not.")
def status(as_json: bool, check: bool) -> None:
    """Show what is connected and replicated, how fresh it is, and what is pending."""
    from smileback_pipeline import status as reading

    settings = load_settings()
    found = reading.read_status(settings)
    if check:
        with _api_errors_as_sentences():
            found = reading.checked(found, settings)
    if as_json:
        click.echo(reading.as_json(found))
    else:
        for line in reading.lines(found, datetime.now(UTC)):
            click.echo(line)
    if check and not found.connection.is_answered:
        sys.exit(1)


@cli.command()
@click.argument("table", required=False)
@click.option("--sql", metavar="QUERY", help="Write the answer to this query instead of a table.")
@click.option(
    "--to",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="What it ends in, .csv, .xlsx or .parquet, is the format.",
)
def export(table: str | None, sql: str | None, target: Path) -> None:
    """Write a table of the published file, such as scores or replica.reviews, for a spreadsheet or another tool."""
    from smileback_pipeline import export as exporting

    if (table is None) == (sql is None):
        raise click.UsageError("Say which TABLE to write, or --sql.")
    settings = load_settings()
    try:
        click.echo(exporting.export(settings.analytics_path, target, table=table, sql=sql))
    except exporting.ExportError as error:
        _fail(str(error))


@cli.command()
@click.option("--port", default=3000, show_default=True)
def dev(port: int) -> None:
    """Serve the Dagster UI and its daemon; without credentials, on the built-in sandbox."""
    settings = load_settings()
    with contextlib.ExitStack() as stack:
        if not _has_account(settings):
            click.echo("No SmileBack credentials: the UI works on the built-in sandbox, an invented MSP.")
            stack.enter_context(_sandbox_account())
        click.echo(f"http://127.0.0.1:{port} has no login: it is for this machine only.")
        dagster = Path(sys.executable).with_name("dagster")
        _enter_project()
        # Without these it would say that history is lost at the end, and that its successor should be used.
        os.environ.setdefault("DAGSTER_HOME", str(PROJECT_ROOT))
        os.environ.setdefault("PYTHONWARNINGS", "ignore:Function `dev_command` is superseded")
        command = [str(dagster), "dev", "-h", "127.0.0.1", "-p", str(port)]
        # A script's `&` has us ignore what the child is told to end by, and the child would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Told once by us, whoever tells us: told twice, as by Ctrl-C in a terminal, it would leave its own children.
        with subprocess.Popen(command, start_new_session=True) as served:
            try:
                status = served.wait()
            except KeyboardInterrupt:
                served.send_signal(signal.SIGINT)
                status = served.wait()
        sys.exit(status)


@cli.command()
@click.option("--port", default=8750, show_default=True, help="On loopback.")
@click.option("--requests-per-minute", default=30, show_default=True, help="0 for no limit.")
@click.option("--speed", default=1.0, show_default=True, help="How fast time runs there; 1440 makes a minute a day.")
def sandbox(port: int, requests_per_minute: int, speed: float) -> None:
    """Serve a realistic SmileBack on loopback, and print the variables to use it."""
    from smileback_pipeline.sandbox import Sandbox, serve

    def announce(started: Sandbox) -> None:
        click.echo("# A realistic SmileBack with invented data. Put these variables into .env, or export them:")
        for name, value in started.environment().items():
            click.echo(f"{name}={value}")
        click.echo("# Ctrl-C ends it.")

    serve(f"127.0.0.1:{port}", requests_per_minute=requests_per_minute or None, speed=speed, on_start=announce)


def _has_account(settings: Settings) -> bool:
    return settings.may_have_token or any(getattr(settings, name) for name in _CREDENTIALS)


@contextlib.contextmanager
def _sandbox_account() -> Iterator[None]:
    """Point the environment at a sandbox that runs for as long as the block."""
    from smileback_pipeline.sandbox import World, running_sandbox

    with running_sandbox(World(), speed=1.0) as started:
        os.environ.update(started.environment())
        os.environ.update(
            SMILEBACK_DUCKDB_PATH=str(SANDBOX_DIRECTORY / "warehouse.duckdb"),
            SMILEBACK_ANALYTICS_PATH=str(SANDBOX_DIRECTORY / "analytics.duckdb"),
            SMILEBACK_SCORECARD_PATH=str(SANDBOX_DIRECTORY / "scorecard.html"),
            SMILEBACK_TOKEN_PATH=str(SANDBOX_DIRECTORY / "tokens.json"),
            SMILEBACK_START_DATE="2024-01-01",
        )
        yield


def _sync(settings: Settings, *, since: datetime | None = None, full: bool = False) -> None:
    with _imports_uncollected():
        from smileback_pipeline.console import ConsoleReporter
        from smileback_pipeline.runs import run_sync

    # Of a million reviews, pages would wait for Python's lock two of ten seconds, while the next ones arrive.
    sys.setswitchinterval(0.0005)
    _enter_project()
    reporter = ConsoleReporter()
    with reporter.running():
        failure = run_sync(settings, reporter, since=since.date() if since else None, full=full)
    if failure:
        _fail(failure)
    reporter.summarize(settings)


@contextlib.contextmanager
def _imports_uncollected() -> Iterator[None]:
    """Keep the garbage collector from what is imported and stays: going through it again and again takes seconds."""
    gc.disable()
    yield
    gc.freeze()
    # Pages, parsed models and events are many objects in few cycles; each 700 of them, it would look for some.
    gc.set_threshold(20_000)
    gc.enable()


def _enter_project() -> None:
    """Dagster finds its instance and its code by the working directory."""
    os.chdir(PROJECT_ROOT)


@contextlib.contextmanager
def _api_errors_as_sentences() -> Iterator[None]:
    import stamina.instrumentation

    from smileback_pipeline.api.errors import ApiError

    # Retries would be logged to standard output, into the JSON that a machine reads.
    stamina.instrumentation.set_on_retry_hooks(())
    try:
        yield
    except ApiError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    from smileback_pipeline.api.errors import printable

    # Some of the words can come from a server, or from the data.
    click.echo("\n".join(map(printable, f"Error: {message}".splitlines())), err=True)
    sys.exit(1)


def main() -> None:
    """Run the command line; a missing or wrong setting is one sentence and exit status 2."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    status = 1

    def leave() -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    # The first to be registered is the last to be called, when nothing is left but to free all that was imported,
    # object by object, for a second.
    atexit.register(leave)
    signal.signal(signal.SIGTERM, interrupt)
    # Customers' words and addresses: what we and our child processes create is for this user alone.
    os.umask(0o077)
    try:
        cli(standalone_mode=True)
    except ConfigurationError as error:
        click.echo(f"Error: {error}", err=True)
        status = 2
    except SystemExit as end:
        status = int(end.code or 0)
