"""What the scorecard says, read from the published file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from smileback_pipeline.metrics import METRICS, NET_CSAT, Metric

MEMBERS_SHOWN = 25
MONTHS_SHOWN = 24
QUARTERS_SHOWN = 8
COMMENTS_SHOWN = 12
CATEGORIES_SHOWN = 20
_LONGEST_COMMENT = 600
# The page is made within a run, beside everything else that needs memory. Each thread takes of it: with one for each
# processor, a large machine would have too little for any.
_MEMORY_LIMIT = "64MB"
_THREADS = 2


@dataclass(frozen=True)
class Score:
    """A row of `marts.scores`."""

    value: float
    low: float
    """Ends of the 95 % interval."""
    high: float
    count: int
    is_small: bool


@dataclass(frozen=True)
class Period:
    """A calendar quarter."""

    start: date

    @property
    def before(self) -> Period:
        """The quarter before."""
        months = self.start.year * 12 + self.start.month - 1 - 3
        return Period(date(months // 12, months % 12 + 1, 1))

    def is_over(self, today: date) -> bool:
        """Whether a quarter of a later start has begun."""
        return (today.year, (today.month - 1) // 3) > (self.start.year, (self.start.month - 1) // 3)

    def __str__(self) -> str:
        return f"{self.start.year} Q{(self.start.month + 2) // 3}"


@dataclass(frozen=True)
class Member:
    """An agent or a company with its scores of the period and of the one before, by metric."""

    name: str
    now: dict[str, Score]
    before: dict[str, Score]


@dataclass(frozen=True)
class Members:
    """Those with the most answers, and how many there are besides."""

    shown: tuple[Member, ...]
    more: int


@dataclass(frozen=True)
class Comment:
    """What a customer who is not content wrote."""

    day: date
    answer: str
    """To which question, and how: `negative rating` or `NPS 3`."""
    text: str
    company: str | None
    agents: tuple[str, ...]
    status: str | None
    permalink: str | None


@dataclass(frozen=True)
class Facts:
    """Everything on the page. Without any answers `period` is None, and all else is empty."""

    today: date
    period: Period | None
    all_time: dict[str, Score]
    now: dict[str, Score]
    before: dict[str, Score]
    months: dict[date, dict[str, Score]]
    quarters: dict[date, dict[str, Score]]
    agents: Members
    companies: Members
    nps_answers: tuple[int, ...]
    """Of the last twelve months, by score from 0 to 10."""
    categories: tuple[tuple[str, Score], ...]
    """Of the project surveys of the period's year, best first."""
    comments: tuple[Comment, ...]


def read_facts(published: Path, today: date) -> Facts:
    """Return what the published file says as of `today`; what it dates later is left out."""
    with contextlib.closing(duckdb.connect(published, read_only=True)) as connection:
        connection.execute(f"set TimeZone = 'UTC'; set memory_limit = '{_MEMORY_LIMIT}'; set threads = {_THREADS}")
        return _facts(connection, today)


def _facts(connection: duckdb.DuckDBPyConnection, today: date) -> Facts:
    quarters: dict[date, dict[str, Score]] = {}
    months: dict[date, dict[str, Score]] = {}
    all_time: dict[str, Score] = {}
    rows = connection.execute(
        f"""
        select grain, period_start, metric, {_SCORE}
        from marts.scores
        where dimension = 'all' and grain in ('all', 'quarter', 'month')
            and value is not null and (period_start is null or period_start <= ?)
        order by period_start
        """,
        [today],
    ).fetchall()
    for grain, start, metric, *score in rows:
        periods = {"quarter": quarters, "month": months}.get(grain)
        (all_time if periods is None else periods.setdefault(start, {}))[metric] = Score(*score)
    period = Period(max(quarters)) if quarters else None
    nothing = Members((), 0)
    return Facts(
        today=today,
        period=period,
        all_time=all_time,
        now=quarters[period.start] if period else {},
        before=quarters.get(period.before.start, {}) if period else {},
        months=dict(sorted(months.items())[-MONTHS_SHOWN:]),
        quarters=dict(sorted(quarters.items())[-QUARTERS_SHOWN:]),
        agents=_members(connection, "agent", [NET_CSAT], period) if period else nothing,
        companies=_members(connection, "company", METRICS, period) if period else nothing,
        nps_answers=_nps_answers(connection, today),
        categories=_categories(connection, period) if period else (),
        comments=_comments(connection, today),
    )


def _members(
    connection: duckdb.DuckDBPyConnection, dimension: str, metrics: Sequence[Metric], period: Period
) -> Members:
    """Those who have a score in the period."""
    rows = connection.execute(
        f"""
        with slices as materialized (
            select member, metric, period_start, {_SCORE}
            from marts.scores
            where dimension = $dimension and grain = 'quarter' and period_start in ($now, $before)
                and metric in (select unnest($metrics)) and value is not null
        ),
        ranked as (
            select member, row_number() over (order by sum(count_responses) desc, member) as place
            from slices
            where period_start = $now and metric <> 'response_rate'
            group by member
        )
        select place, (select count(*) from ranked) as members, slices.*
        from slices inner join ranked using (member)
        where place <= $shown
        order by place
        """,
        {
            "dimension": dimension,
            "metrics": [metric.name for metric in metrics],
            "now": period.start,
            "before": period.before.start,
            "shown": MEMBERS_SHOWN,
        },
    ).fetchall()
    members: dict[int, Member] = {}
    for place, _, name, metric, start, *score in rows:
        member = members.setdefault(place, Member(name, {}, {}))
        (member.now if start == period.start else member.before)[metric] = Score(*score)
    total = rows[0][1] if rows else 0
    return Members(tuple(members.values()), more=total - len(members))


def _nps_answers(connection: duckdb.DuckDBPyConnection, today: date) -> tuple[int, ...]:
    counted = dict(
        connection.execute(
            """
            select score, count(*) from marts.fct_nps_responses
            where response_day > ?::date - interval 1 year and response_day <= ?
            group by score
            """,
            [today, today],
        ).fetchall()
    )
    return tuple(counted.get(score, 0) for score in range(11)) if counted else ()


def _categories(connection: duckdb.DuckDBPyConnection, period: Period) -> tuple[tuple[str, Score], ...]:
    rows = connection.execute(
        f"""
        select member, {_SCORE} from marts.scores
        where metric = 'project_survey_score' and dimension = 'category' and grain = 'year'
            and period_start = date_trunc('year', ?::date) and value is not null
        order by count_responses desc, member limit {CATEGORIES_SHOWN}
        """,
        [period.start],
    ).fetchall()
    categories = [(name, Score(*score)) for name, *score in rows]
    return tuple(sorted(categories, key=lambda category: -category[1].value))


def _comments(connection: duckdb.DuckDBPyConnection, today: date) -> tuple[Comment, ...]:
    # The newest of each kind first: of years of both together, DuckDB would read every comment.
    newest = f"""
        day <= $today and regexp_matches(comment, '[^\\p{{Z}}\\p{{C}}]')
        order by written_at desc
        limit {COMMENTS_SHOWN}
    """
    rows = connection.execute(
        f"""
        with negative as (
            select
                rated_day as day, rated_at as written_at, 'negative rating' as answer, comment, company_name, agents,
                status, permalink
            from marts.fct_csat_reviews
            where rating = -1 and {newest}
        ),
        detractors as (
            select
                response_day as day, created_at as written_at, 'NPS ' || score as answer, comment, company_name, [],
                null, null
            from marts.fct_nps_responses
            where respondent_type = 'detractor' and {newest}
        )
        select day, answer, comment, company_name, agents, status, permalink
        from (from negative union all from detractors)
        order by written_at desc
        limit {COMMENTS_SHOWN}
        """,
        {"today": today},
    ).fetchall()
    return tuple(
        Comment(day, answer, _shortened(text), company, tuple(agents or ()), status, _safe_link(permalink))
        for day, answer, text, company, agents, status, permalink in rows
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_COMMENT else f"{text[:_LONGEST_COMMENT].rstrip()} …"


def _safe_link(address: str | None) -> str | None:
    """The address, unless a click on it could do more than open a page."""
    return address if address and address.startswith("https://") else None


_SCORE = "value, value_low, value_high, count_responses, is_small_sample"
