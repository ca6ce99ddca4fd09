"""What a person reads in the terminal while a sync runs, and when it is over."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb
from rich.console import Console
from rich.status import Status
from rich.table import Column, Table

from smileback_pipeline.endpoints import ENDPOINTS, Endpoint
from smileback_pipeline.metrics import METRICS
from smileback_pipeline.replication import Replicated
from smileback_pipeline.settings import PROJECT_ROOT, Settings

_SECONDS_A_LINE = 5
_QUARTERS_SHOWN = 3
_SCORES = """
select metric, grain, period_start, count_responses, value
from marts.scores
where dimension = 'all' and grain in ('all', 'quarter') and value is not null
"""


@dataclass
class ConsoleReporter:
    """Keeps one line in motion on a terminal, and prints a line now and then where there is none."""

    # The stream is bound when this is made: standard output is redirected while Dagster runs.
    console: Console = field(default_factory=lambda: _console())
    results: dict[str, Replicated] = field(default_factory=dict)
    rebuilt: str = "No day had to be rebuilt."
    _status: Status | None = None
    _read: str = ""
    _last_line_at: float = 0.0

    def reading(self, endpoint: Endpoint, *, read: int, expected: int) -> None:
        """See Reporter."""
        if read < expected:
            self._read = f"{endpoint.name}: {read:,} of {expected:,} records"
            self._now(self._read)

    def waiting(self, seconds: float) -> None:
        """See Reporter."""
        if seconds >= 1:
            so_far = f"{self._read}; " if self._read else ""
            self._now(f"{so_far}waiting {seconds:.0f} s for SmileBack's request quota", is_due=True)

    def replicated(self, endpoint: Endpoint, result: Replicated) -> None:
        """See Reporter."""
        self.results[endpoint.name] = result
        self._read = ""
        resumed = (
            f", went on at {result.resumed_from:%Y-%m-%d %H:%M} where a run had stopped" if result.resumed_from else ""
        )
        requests = f"{result.requests} request{'s' if result.requests != 1 else ''}"
        waited = f", {result.waited_seconds:.0f} s of waiting" if result.waited_seconds >= 1 else ""
        self.console.print(f"  {endpoint.name:<16}{result.summary.rows:>10,} rows   {requests}{waited}{resumed}")

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        """See Reporter."""
        self.console.print(f"  {endpoint.name:<16}    failed   {error}", soft_wrap=True)

    def rebuilding(self, days: Sequence[date], *, everything: bool) -> None:
        """See Reporter."""
        what = f"{len(days):,} day{'s' if len(days) != 1 else ''}"
        # Everything can be due without a day that changed: for another time zone, or for other models.
        if days or everything:
            self.rebuilt = " ".join(["All marts were built."] * everything + [f"{what} rebuilt."] * bool(days))
        rebuilding = f"rebuilding the marts of {what}" if days else "checking the marts"
        self._now(f"building all marts{f' ({what})' if days else ''}" if everything else rebuilding, is_due=True)

    def warned(self, message: str) -> None:
        """See Reporter."""
        self.console.print(f"  … {message}", soft_wrap=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Show what is going on for as long as the block lasts."""
        with self.console.status("starting") as self._status:
            yield
        self._status = None

    def summarize(self, settings: Settings) -> None:
        """Print what changed, the scores, and which file to open."""
        self.console.print(self._changes(), "", sep="\n")
        rebuilt = self.rebuilt
        set_aside = sum(result.summary.rejected for result in self.results.values())
        if set_aside:
            rebuilt += (
                f" {set_aside:,} records cannot be right and are set aside: "
                f"see replica.rejected_records in {_shown(settings.duckdb_path)}."
            )
        self.console.print(rebuilt, soft_wrap=True)
        self.console.print()
        self.console.print(_scores(settings.analytics_path))
        path = _shown(settings.analytics_path)
        self.console.print(f"\nThe file to open: {path}", soft_wrap=True)
        self.console.print(f'  duckdb -readonly {path} "from marts.scores limit 10"', soft_wrap=True)
        self.console.print(f"The scorecard, for a browser: {_shown(settings.scorecard_path)}", soft_wrap=True)

    def _now(self, text: str, *, is_due: bool = False) -> None:
        if self._status:
            self._status.update(text)
        now = time.monotonic()
        if not self.console.is_terminal and (is_due or now - self._last_line_at >= _SECONDS_A_LINE):
            self._last_line_at = now
            self.console.print(f"  … {text}")

    def _changes(self) -> Table:
        table = _table("replica", "rows", "new", "changed", "deleted", "set aside")
        for endpoint in ENDPOINTS:
            if result := self.results.get(endpoint.name):
                changes = result.changes
                counts = (result.summary.rows, changes.new, changes.changed, changes.deleted, result.summary.rejected)
                table.add_row(endpoint.name, *(f"{count:,}" for count in counts))
        return table


def _console() -> Console:
    # A log has no width of its own; 80 columns would break its tables.
    width = None if sys.stdout.isatty() else 120
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)


def _scores(path: Path) -> Table:
    with contextlib.closing(duckdb.connect(path, read_only=True)) as connection:
        rows = connection.execute(_SCORES).fetchall()
    values = {(metric, period): (value, count) for metric, _, period, count, value in rows}
    quarters = sorted({period for _, period in values if period}, reverse=True)[:_QUARTERS_SHOWN]
    table = _table("score", "all time", "of", *(f"{day.year} Q{(day.month + 2) // 3}" for day in quarters))
    for metric in METRICS:
        title = f"{metric.title}, {metric.scale}" if metric.scale else metric.title
        if (metric.name, None) not in values:
            table.add_row(title, "no answers")
            continue
        value, count = values[metric.name, None]
        by_quarter = (values.get((metric.name, quarter)) for quarter in quarters)
        table.add_row(
            title,
            metric.written(value),
            f"{count:,} {metric.counted}",
            *(metric.written(q[0]) if q else "" for q in by_quarter),
        )
    return table


def _table(first: str, *others: str) -> Table:
    numbers = (Column(header, justify="right", no_wrap=True) for header in others)
    return Table(Column(first, no_wrap=True), *numbers, box=None, pad_edge=False)


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else str(path)
