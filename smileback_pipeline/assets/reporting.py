"""Who hears how a run is going: the run's log, or whoever started the run."""

import logging
from collections.abc import Sequence
from datetime import date
from typing import Protocol

import dagster as dg

from smileback_pipeline.endpoints import Endpoint
from smileback_pipeline.replication import Replicated

REPORTING = "reporting"
"""The logger by which a run that has a reporter tells it of warnings."""


class Reporter(Protocol):
    """Hears how a sync is going."""

    def reading(self, endpoint: Endpoint, *, read: int, expected: int) -> None:
        """`read` of `expected` records of the endpoint have been landed."""

    def waiting(self, seconds: float) -> None:
        """The request quota imposes a wait."""

    def replicated(self, endpoint: Endpoint, result: Replicated) -> None:
        """An endpoint is done."""

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        """An endpoint failed; the others go on."""

    def rebuilding(self, days: Sequence[date], *, everything: bool) -> None:
        """The marts of these days, or of all days, are being built; checked alone where there are no days."""

    def warned(self, message: str) -> None:
        """The run's log warns of something, such as a file that another program has open."""


class LogReporter:
    """Writes to the run's log."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        self._log = log

    def reading(self, endpoint: Endpoint, *, read: int, expected: int) -> None:
        """See Reporter."""
        self._log.info(f"{endpoint.name}: {read:,} of {expected:,} records")

    def waiting(self, seconds: float) -> None:
        """See Reporter."""
        self._log.info(f"Waiting {seconds:.0f} s for the request quota")

    def replicated(self, endpoint: Endpoint, result: Replicated) -> None:
        """See Reporter."""
        if result.resumed_from:
            self._log.info(f"{endpoint.name}: went on where an earlier run had stopped, at {result.resumed_from}")

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        """See Reporter."""
        self._log.error(f"{endpoint.name}: {error}")

    def rebuilding(self, days: Sequence[date], *, everything: bool) -> None:
        """See Reporter."""
        rebuilding = f"Rebuilding the marts of {len(days)} days" if days else "Checking the marts"
        self._log.info("Building all marts" if everything else rebuilding)

    def warned(self, message: str) -> None:
        """See Reporter. The log has it."""


def build_logger(reporter: Reporter) -> dg.LoggerDefinition:
    """Passes on to a reporter what a run's log warns of, which nobody would see in a terminal."""

    class Warnings(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.WARNING:
                reporter.warned(record.dagster_meta["orig_message"])  # type: ignore[attr-defined]

    @dg.logger
    def warnings(context: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("warnings")
        logger.addHandler(Warnings())
        return logger

    return warnings
