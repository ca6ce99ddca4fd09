"""The scorecard's pictures: drawn by matplotlib, as SVG that takes its colours from the page.

The page's security policy allows no style but the page's own, and its colours depend on the reader's screen. So
what matplotlib draws in one of our colours becomes a class, and all other style an attribute.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from smileback_pipeline.metrics import PROJECT_SCORE, RESPONSE_RATE, Metric
from smileback_pipeline.scorecard.facts import Period, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Names of colours in the page's style sheet, drawn in colours that nobody sees.
_COLOURS = ("ink", "muted", "rule", "accent", "count", "good", "fair", "poor")
_DRAWN = {name: f"#00000{place}" for place, name in enumerate(_COLOURS, 1)}
_NAMES = {colour: name for name, colour in _DRAWN.items()}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_LONGEST_LABEL = 34
_BAR_DAYS = {"month": 22, "quarter": 66}
_DETRACTORS, _PASSIVES = range(7), range(7, 9)


def trend(metric: Metric, grain: str, periods: Mapping[date, Score]) -> Markup:
    """A metric by `month` or `quarter`, each by its first day, with its intervals, over what it is made of."""
    figure = _figure(4.6, 2.5)
    lines, bars = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    starts = list(periods)
    scores = list(periods.values())
    reach = [score.low for score in scores], [score.high for score in scores]
    lines.fill_between(starts, *reach, color=_DRAWN["accent"], alpha=0.18, lw=0)
    lines.plot(starts, [score.value for score in scores], color=_DRAWN["accent"], lw=1.8, marker="o", markersize=3)
    if metric is RESPONSE_RATE:
        lines.yaxis.set_major_formatter(lambda value, place: f"{value:.0%}")
    bars.bar(starts, [score.count for score in scores], width=_BAR_DAYS[grain], color=_DRAWN["count"])
    bars.set_ylabel("n", rotation=0, ha="right", va="center", color=_DRAWN["muted"], fontsize=8)
    lines.locator_params("y", nbins=5)
    bars.locator_params("y", nbins=2, integer=True)
    _date_axis(bars)
    for axes in (lines, bars):
        _plain(axes)
    return _inline(figure, f"trend-{metric.name}", _described(metric, grain, periods))


def nps_distribution(answers: Sequence[int]) -> Markup:
    """How many gave each of the answers 0 to 10."""
    figure = _figure(4.6, 2.5)
    axes = figure.subplots()
    colours = ["poor" if n in _DETRACTORS else "fair" if n in _PASSIVES else "good" for n in range(11)]
    bars = axes.bar(range(11), answers, color=[_DRAWN[name] for name in colours], width=0.8)
    axes.bar_label(bars, [f"{count:,}" for count in answers], fontsize=7.5, color=_DRAWN["muted"], padding=1)
    axes.set_xticks(range(11))
    axes.set_yticks([])
    _plain(axes)
    groups = (
        ("detractors (0 to 6)", sum(answers[:7])),
        ("passives (7 and 8)", sum(answers[7:9])),
        ("promoters (9 and 10)", sum(answers[9:])),
    )
    listed = ", ".join(f"{count:,} {name}" for name, count in groups)
    return _inline(figure, "nps-answers", f"Bars: {sum(answers):,} answers from 0 to 10: {listed}.")


def categories(scores: Sequence[tuple[str, Score]]) -> Markup:
    """Mean ratings of the project categories with their intervals."""
    figure = _figure(4.6, 0.6 + 0.3 * len(scores))
    axes = figure.subplots()
    places = range(len(scores))
    values = [score.value for _, score in scores]
    reach = [[score.value - score.low for _, score in scores], [score.high - score.value for _, score in scores]]
    axes.barh(places, [value - 1 for value in values], left=1, color=_DRAWN["accent"], alpha=0.55, height=0.62)
    axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=_DRAWN["ink"], elinewidth=1, capsize=2)
    # Matplotlib would read a formula between two dollar signs.
    names = [_shortened(name).replace("$", r"\$") for name, _ in scores]
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(1, 5)
    _plain(axes)
    listed = "; ".join(f"{name} {PROJECT_SCORE.written(score.value)}" for name, score in scores)
    return _inline(figure, "categories", f"Bars on a scale from 1 to 5: {listed}.")


def _described(metric: Metric, grain: str, periods: Mapping[date, Score]) -> str:
    first, last = min(periods), max(periods)
    lowest = min(periods, key=lambda start: periods[start].value)
    highest = max(periods, key=lambda start: periods[start].value)
    told = ", ".join(
        f"{word} {metric.written(periods[start].value)} in {Period(start) if grain == 'quarter' else f'{start:%B %Y}'}"
        for word, start in (("first", first), ("lowest", lowest), ("highest", highest), ("last", last))
    )
    return f"Line of {metric.title} by {grain} with its 95 % interval: {told}. The table below has them by month."


def _figure(width: float, height: float) -> Figure:
    """A figure of a size in inches at which letters of 8 points can be read on a phone."""
    # Only what draws: pyplot would look for a screen. Imported here, since it takes a second.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=72, layout="constrained", facecolor="none")


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_DRAWN["rule"])
    axes.tick_params(labelsize=8, labelcolor=_DRAWN["muted"], color=_DRAWN["rule"], length=0)
    axes.grid(axis="y", color=_DRAWN["rule"], linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0.03)


def _date_axis(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _inline(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an element of the page, with the description in its place for those who do not see it."""
    import matplotlib

    drawn = io.BytesIO()
    # Text stays text, in the page's own type.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    picture = ElementTree.fromstring(drawn.getvalue())
    for parent in picture.iter():
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
    for element in picture.iter():
        _restyle(element, name)
    for attribute in ("width", "height"):
        picture.attrib.pop(attribute, None)
    picture.set("role", "img")
    picture.set("aria-label", description)
    return Markup(ElementTree.tostring(picture, encoding="unicode"))


def _restyle(element: ElementTree.Element, prefix: str) -> None:
    classes = []
    for declaration in element.attrib.pop("style", "").split(";"):
        given, _, value = (part.strip() for part in declaration.partition(":"))
        if given in ("fill", "stroke") and value in _NAMES:
            classes.append(f"{given}-{_NAMES[value]}")
        elif given == "font":
            # Such as `8px 'DejaVu Sans', …`: the page has a family of its own.
            element.set("font-size", value.split()[0])
        elif given:
            element.set(given, value)
    if classes:
        element.set("class", " ".join(classes))
    # Each picture comes with ids of its own, which must be one of a kind on the page.
    if "id" in element.attrib:
        element.set("id", f"{prefix}-{element.get('id')}")
    for key, value in element.items():
        if key.endswith("href"):
            element.set(key, value.replace("#", f"#{prefix}-", 1))
        elif "url(#" in value:
            element.set(key, re.sub(r"url\(#", f"url(#{prefix}-", value))
