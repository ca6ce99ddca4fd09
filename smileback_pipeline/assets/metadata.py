"""What Dagster shows beside a materialization: numbers that it plots over time, previews, the trend of the scores."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
import duckdb

from smileback_pipeline.replication import Replicated

Metadata = Mapping[str, Any]

OWNERS = ["team:data"]
NET_CSAT_RULE = dg.MetadataValue.url("https://blog.smileback.com/2015/12/10/your-net-csat-score-explained/")
"""Where the vendor explains the score that other vendors compute otherwise."""

# By metric: title, and how its denominator is called.
HEADLINES = {
    "net_csat": ("Net CSAT, -100 to +100", "rated reviews"),
    "response_rate": ("Response rate, 0 to 1", "reviews"),
    "nps": ("NPS, -100 to +100", "responses"),
    "project_survey_score": ("Project score, 1 to 5", "ratings"),
}
# By daily mart: what is told of a day, and how it comes from the rows of the day.
_DAILY_NUMBERS = {
    "csat_daily": {"count_ratings": "any_value(count_ratings)", "net_csat": "any_value(net_csat)"},
    "csat_response_daily": {"count_reviews": "any_value(count_reviews)", "response_rate": "any_value(response_rate)"},
    "nps_daily": {"count_responses": "any_value(count_responses)", "nps": "any_value(nps)"},
    "project_survey_daily": {
        "count_ratings": "sum(count_ratings)::bigint",
        "average_rating": "sum(sum_ratings) / sum(count_ratings)",
    },
}
_MONTHS_PLOTTED = 24
_COLOURS = 32
_MONTHS_PREVIEWED = 6


def replication_metadata(result: Replicated) -> Metadata:
    """What a walk over an endpoint did and cost."""
    changes = result.changes
    metadata: dict[str, Any] = {
        "dagster/row_count": result.summary.rows,
        "rows_new": changes.new,
        "rows_changed": changes.changed,
        "rows_deleted": changes.deleted,
        "records_set_aside": result.summary.rejected,
        "days_touched": len(changes.days),
        "requests": result.requests,
        "seconds_waited_for_quota": round(result.waited_seconds, 1),
    }
    if result.watermark:
        metadata["watermark"] = dg.MetadataValue.timestamp(result.watermark)
    if result.summary.newest:
        metadata["newest_rows"] = preview(result.summary.newest)
    return metadata


def preview(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table; what is no number is written as text."""
    records = [
        dg.TableRecord(
            {name: value if isinstance(value, int | float) else str(value or "") for name, value in row.items()}
        )
        for row in rows
    ]
    return dg.MetadataValue.table(
        records, schema=dg.TableSchema([dg.TableColumn(name) for name in records[0].data] if records else [])
    )


def day_metadata(connection: duckdb.DuckDBPyConnection, mart: str, days: Sequence[date]) -> dict[str, Metadata]:
    """By day, as its partition is called: what the daily mart counts there, and its score if it has one."""
    numbers = _DAILY_NUMBERS[mart]
    rows = connection.execute(
        f"""
        select date_day, {", ".join(numbers.values())}
        from marts.{mart}
        where date_day in (select unnest(?::date[]))
        group by date_day
        """,
        [list(days)],
    ).fetchall()
    told = {day: dict(zip(numbers, values, strict=True)) for day, *values in rows}
    # A day that became empty counts nothing and has no score.
    return {day.isoformat(): told.get(day, {next(iter(numbers)): 0}) for day in days}


def row_counts(connection: duckdb.DuckDBPyConnection, tables: Sequence[Sequence[str]]) -> list[int | None]:
    """Rows of tables named by schema and name; None for those that would have to be computed to be counted."""
    stored = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
    rows: list[int | None] = []
    for schema, table in tables:
        is_cheap = (schema, table) in stored or schema == "staging" or table.startswith("fct_")
        row = connection.execute(f"select count(*) from {schema}.{table}").fetchone() if is_cheap else None
        rows.append(row[0] if row else None)
    return rows


def score_metadata(connection: duckdb.DuckDBPyConnection) -> Metadata:
    """The four scores of all time with what they are made of, the last months as a table, and their trend."""
    rows = connection.execute(
        """
        select metric, period_start, value, count_responses
        from marts.scores
        where dimension = 'all' and grain in ('all', 'month')
        order by period_start
        """
    ).fetchall()
    metadata: dict[str, Any] = {}
    months: dict[date, dict[str, tuple[float, int]]] = {}
    for metric, month, value, answers in rows:
        if month is None:
            metadata[metric] = value
            metadata[f"{metric}_of"] = answers
        else:
            months.setdefault(month, {})[metric] = (value, answers)
    if months:
        newest = sorted(months, reverse=True)
        metadata["last_months"] = preview(
            {"month": f"{month:%Y-%m}"} | _columns(months[month]) for month in newest[:_MONTHS_PREVIEWED]
        )
        metadata["trend"] = _plot({month: months[month] for month in reversed(newest[:_MONTHS_PLOTTED])})
    return metadata


def _columns(scores: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for metric, (_, counted) in HEADLINES.items():
        value, answers = scores.get(metric, ("", 0))
        columns[metric] = round(value, 2) if isinstance(value, float) else value
        columns[f"{metric}: {counted}"] = answers
    return columns


def _plot(months: Mapping[date, Mapping[str, tuple[float, int]]]) -> dg.MarkdownMetadataValue:
    """The monthly scores as lines over bars of what they are made of, as a picture that the UI shows."""
    # Only what draws: pyplot would look for a screen. Imported here, since it takes a second.
    from matplotlib.dates import AutoDateLocator
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(10, 5.6), dpi=72)
    # Measured once: to have matplotlib find the room for the labels would be to draw all of it twice.
    room = {"left": 0.05, "right": 0.94, "bottom": 0.05, "top": 0.95, "wspace": 0.27, "hspace": 0.22}
    for axes, (metric, (title, counted)) in zip(
        figure.subplots(2, 2, gridspec_kw=room).flat, HEADLINES.items(), strict=True
    ):
        points = {month: scores[metric] for month, scores in months.items() if metric in scores}
        bars = axes.twinx()
        bars.bar(list(points), [answers for _, answers in points.values()], width=25, color="#d9e2ec")
        bars.set_ylabel(counted, color="#829ab1", fontsize=8)
        bars.tick_params(colors="#829ab1", labelsize=7)
        axes.plot(list(points), [value for value, _ in points.values()], color="#2f6f4f", marker="o", markersize=3)
        axes.set_title(title, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        # The line in front of the bars.
        axes.set_zorder(bars.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(AutoDateLocator(maxticks=7))
    drawn, picture = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    # It is stored with each run that changed something: a few colours make it a fifth as large.
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(picture, format="png", optimize=True)
    encoded = base64.b64encode(picture.getvalue()).decode()
    return dg.MetadataValue.md(f"![Monthly scores and what they are made of](data:image/png;base64,{encoded})")
