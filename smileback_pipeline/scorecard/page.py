"""The scorecard's page: facts and pictures put into the template."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from smileback_pipeline.metrics import METRICS, NET_CSAT, NPS, PROJECT_SCORE
from smileback_pipeline.scorecard import charts
from smileback_pipeline.scorecard.facts import Facts, read_facts

_DIRECTORY = Path(__file__).parent


def render_scorecard(published: Path, now: datetime) -> str:
    """Return the page about the file at `published`; `now` is in the reporting time zone.

    Raises duckdb.Error where the file cannot be read.
    """
    facts = read_facts(published, now.date())
    style = (_DIRECTORY / "page.css").read_text()
    environment = Environment(
        loader=FileSystemLoader(_DIRECTORY),
        # Names and comments are data: nothing of them is HTML.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        facts=facts,
        now=now,
        metrics=METRICS,
        csat=NET_CSAT,
        nps=NPS,
        project=PROJECT_SCORE,
        trends=_trends(facts),
        nps_chart=charts.nps_distribution(facts.nps_answers) if facts.nps_answers else None,
        category_chart=charts.categories(facts.categories) if facts.categories else None,
        style=Markup(style),
        # Nothing is loaded and nothing runs: the one style sheet is this one, known by its hash.
        policy="default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
        f"{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'",
    )


def _trends(facts: Facts) -> list[tuple[str, Markup]]:
    trends = []
    for metric in METRICS:
        # Campaigns are seldom: what comes late to one would be a month of one answer.
        grain, periods = ("quarter", facts.quarters) if metric is NPS else ("month", facts.months)
        series = {start: scores[metric.name] for start, scores in periods.items() if metric.name in scores}
        if series:
            trends.append((f"{metric.title} by {grain}", charts.trend(metric, grain, series)))
    return trends
