"""Measures the initial sync, an increment and a quiet run, and writes the tables of docs/performance.md."""

from __future__ import annotations

import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import click
import dagster as dg
import httpx

from benchmarks.contenders import AGAIN, DLT, FLOOR, LOAD, ROOT, SINGER, WHOLE, Contender
from benchmarks.server import DAYS
from smileback_pipeline_tests.dagster_home import create_dagster_home

TABLES = ROOT / "docs" / "performance-tables.md"
_SAMPLE_EVERY_SECONDS = 0.05
_LIMIT = 30
_REVIEWS_AT_THE_LIMIT = 110_500
_STEPS = {
    "sync": "replicate",
    "dbt": "build_marts",
    "publishing": "published__analytics",
    "scorecard": "published__scorecard",
}


@dataclass(frozen=True)
class Measured:
    """One run of a command: seconds of wall clock, and the peak memory of all its processes together."""

    seconds: float
    peak_mb: float
    requests: int


@dataclass(frozen=True)
class Parts:
    """Where the time of a sync went, in seconds, and how many events of it Dagster stored."""

    seconds: dict[str, float]
    events: int


@click.command(help=__doc__)
@click.option("--reviews", "sizes", multiple=True, type=int, default=(10_000, 100_000), show_default=True)
@click.option("--runs", default=3, show_default=True, help="Of each; medians are reported.")
@click.option("--peers-up-to", default=100_000, show_default=True, help="How many reviews dlt and Singer get to load.")
@click.option("--once-from", default=10_000_000, show_default=True, help="From here on, our first sync alone, once.")
def main(sizes: tuple[int, ...], runs: int, peers_up_to: int, once_from: int) -> None:
    machine = f"Measured on {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [f"{machine}; medians of {runs} runs, of first syncs once from {once_from:,} reviews on.", ""]
    # What dbt parses once in an installation is not to be measured with what it does each time.
    with _server(1_000) as base_url, tempfile.TemporaryDirectory() as directory:
        _measure(WHOLE, base_url, Path(directory))
    grown = []
    for size in sizes:
        is_large = size >= once_from
        contenders = [WHOLE] if is_large else [FLOOR, LOAD, WHOLE, *([DLT, SINGER] if size <= peers_up_to else [])]
        for contender in contenders:
            contender.install()
        told, parts = _initial(size, contenders, 1 if is_large else runs)
        lines += told
        grown.append(parts)
    lines += _growth(sizes, grown)
    lines += _increments(sizes, runs)
    lines += _at_the_limit()
    TABLES.parent.mkdir(exist_ok=True)
    TABLES.write_text("\n".join(lines) + "\n")
    click.echo(f"\nWritten to {TABLES.relative_to(ROOT)}")


def _initial(size: int, contenders: list[Contender], runs: int) -> tuple[list[str], dict[str, float]]:
    results: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
    parts: list[Parts] = []
    with _server(size) as base_url:
        for _ in range(runs):
            # In turn, so that a slow minute of the machine hits all of them.
            for contender in contenders:
                with tempfile.TemporaryDirectory() as directory:
                    results[contender.name].append(_measure(contender, base_url, Path(directory)))
                    if contender is WHOLE:
                        parts.append(_parts(results[contender.name][-1].seconds, Path(directory)))
    floor = statistics.median(result.seconds for result in results.get(FLOOR.name, results[WHOLE.name]))
    lines = [f"### Initial sync of {size:,} reviews", ""]
    lines += ["| | seconds | x floor | peak MB | requests |", "|---|---:|---:|---:|---:|"]
    for name, measured in results.items():
        seconds = statistics.median(result.seconds for result in measured)
        memory = statistics.median(result.peak_mb for result in measured)
        times = f"{seconds / floor:.2f}" if FLOOR.name in results else "-"
        lines.append(f"| {name} | {seconds:.1f} | {times} | {memory:.0f} | {measured[0].requests:,} |")
    medians = {part: statistics.median(each.seconds[part] for each in parts) for part in parts[0].seconds}
    shares = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in medians.items())
    lines += ["", f"Where the time of our whole job goes: {shares}. Dagster stored {parts[0].events:,} events."]
    click.echo("\n".join(lines))
    return [*lines, ""], medians


def _growth(sizes: Sequence[int], parts: Sequence[Mapping[str, float]]) -> list[str]:
    lines = ["### How an initial sync grows", "", f"| reviews | {' | '.join(parts[0])} |"]
    lines.append(f"|---:|{'---:|' * len(parts[0])}")
    for size, seconds in zip(sizes, parts, strict=True):
        lines.append(f"| {size:,} | {' | '.join(f'{second:.1f} s' for second in seconds.values())} |")
    click.echo("\n".join(lines))
    return [*lines, ""]


def _increments(sizes: Sequence[int], runs: int) -> list[str]:
    lines = [
        "### Later syncs, the whole job",
        "",
        "| reviews | nothing new | 1,000 of the last month changed | 1,000 of two years changed | all read again "
        "| peak MB of that | file MB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with ExitStack() as stack:
        places = [
            (stack.enter_context(_server(size)), Path(stack.enter_context(tempfile.TemporaryDirectory())))
            for size in sizes
        ]
        for base_url, directory in places:
            _measure(WHOLE, base_url, directory)
        seconds: list[dict[int, list[float]]] = [{0: [], 30: [], DAYS: []} for _ in sizes]
        for _ in range(runs):
            # In turn, since it is the sizes that are compared.
            for days in seconds[0]:
                for (base_url, directory), measured in zip(places, seconds, strict=True):
                    if days:
                        touch = f"{base_url.removesuffix('/api')}/touch?n=1000&days={days}"
                        httpx.post(touch).raise_for_status()
                    measured[days].append(_measure(WHOLE, base_url, directory).seconds)
        for size, (base_url, directory), measured in zip(sizes, places, seconds, strict=True):
            medians = " | ".join(f"{statistics.median(each):.1f} s" for each in measured.values())
            again = _measure(AGAIN, base_url, directory)
            megabytes = (directory / "analytics.duckdb").stat().st_size / 1e6
            lines.append(f"| {size:,} | {medians} | {again.seconds:.1f} s | {again.peak_mb:.0f} | {megabytes:.0f} |")
    click.echo("\n".join(lines))
    return [*lines, ""]


def _at_the_limit() -> list[str]:
    """One process that reads everything, beside two that share the limit of another customer; minutes of waiting."""
    with ThreadPoolExecutor(2) as both:
        alone, shared = both.map(_limited, (1, 2), (_REVIEWS_AT_THE_LIMIT, _REVIEWS_AT_THE_LIMIT // 2))
    lines = [
        f"### First syncs at {_LIMIT} requests a minute",
        "",
        "| processes | requests | the limit allows | measured | 429 |",
        "|---:|---:|---:|---:|---:|",
        alone,
        shared,
    ]
    click.echo("\n".join(lines))
    return [*lines, ""]


def _limited(processes: int, reviews: int) -> str:
    """Time processes that read so many reviews each, at the same time and for the same customer."""
    with _server(reviews, _LIMIT) as base_url, tempfile.TemporaryDirectory() as name:
        places = [Path(name) / str(number) for number in range(processes)]
        for place in places:
            place.mkdir()
        limit = {"SMILEBACK_REQUESTS_PER_MINUTE": str(_LIMIT), "XDG_STATE_HOME": name}
        with ThreadPoolExecutor(processes) as at_once:
            runs = list(at_once.map(lambda place: _measure(LOAD, base_url, place, limit), places))
        counts = _counts(base_url)
    allowed = 60 * ((counts["asked"] - 1) // _LIMIT)
    measured = max(run.seconds for run in runs)
    return (
        f"| {processes} | {counts['asked']} | {allowed} s | {measured:.1f} s, {measured / allowed - 1:+.1%} "
        f"| {counts['refused']} |"
    )


def _parts(seconds: float, directory: Path) -> Parts:
    """Those of the last sync, as Dagster's history has them; the rest is both ends of it."""
    with dg.DagsterInstance.from_config(str(directory / "dagster")) as instance:
        [run] = instance.get_run_records(limit=1)
        events = instance.all_logs(run.dagster_run.run_id)
        steps = {step.step_key: step for step in instance.get_run_step_stats(run.dagster_run.run_id)}
    parts = {name: steps[key].end_time - steps[key].start_time for name, key in _STEPS.items()}
    # All that dbt did is passed on to Dagster when dbt is done.
    marts = steps[_STEPS["dbt"]]
    told = min(event.timestamp for event in events if event.step_key == marts.step_key and _is_output(event))
    parts |= {"dbt": told - marts.start_time, "storing their events": marts.end_time - told}
    return Parts({"start and end": seconds - sum(parts.values()), **parts}, len(events))


def _is_output(event: dg.EventLogEntry) -> bool:
    return event.dagster_event_type == dg.DagsterEventType.STEP_OUTPUT


def _counts(base_url: str) -> dict[str, int]:
    return httpx.get(f"{base_url.removesuffix('/api')}/requests").json()


def _measure(
    contender: Contender, base_url: str, directory: Path, settings: Mapping[str, str] = MappingProxyType({})
) -> Measured:
    home = directory / "dagster"
    if not home.exists():
        create_dagster_home(directory)
    environment = {
        **os.environ,
        "SMILEBACK_BASE_URL": base_url,
        "SMILEBACK_CLIENT_ID": "bench",
        "SMILEBACK_CLIENT_SECRET": "bench",
        "SMILEBACK_USERNAME": "bench",
        "SMILEBACK_PASSWORD": "bench",
        "SMILEBACK_REQUESTS_PER_MINUTE": "0",
        "SMILEBACK_START_DATE": "2024-01-01",
        "SMILEBACK_DUCKDB_PATH": str(directory / "warehouse.duckdb"),
        "SMILEBACK_ANALYTICS_PATH": str(directory / "analytics.duckdb"),
        "SMILEBACK_TOKEN_PATH": str(directory / "tokens.json"),
        "DAGSTER_HOME": str(home),
        "DLT_DATA_DIR": str(directory / "dlt"),
        **settings,
    }
    log = directory / "log"
    asked_before = _counts(base_url)["asked"]
    with log.open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            contender.command(base_url, directory), env=environment, cwd=ROOT, stdout=output, stderr=output
        )
        peak = _peak_memory_until_end(process)
        seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{contender.name} failed:\n{log.read_text()[-2000:]}")
    return Measured(seconds, peak, _counts(base_url)["asked"] - asked_before)


def _peak_memory_until_end(process: subprocess.Popen[bytes]) -> float:
    """Megabytes, summed over the process and its descendants, sampled."""
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(_SAMPLE_EVERY_SECONDS):
            peak = max(peak, sum(map(_resident_mb, _family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.wait()
    done.set()
    watcher.join()
    return peak


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def _server(reviews: int, *limit: int) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.server", *map(str, (reviews, port, *limit))]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        for _ in range(200):
            try:
                _counts(f"http://127.0.0.1:{port}/api")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
