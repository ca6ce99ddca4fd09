"""The marts as they must be, recomputed in plain Python from the records on the wire and the vendor's definitions.

Shares nothing with the pipeline. Every function takes `records`, a mapping from endpoint to the records that SmileBack
holds (see `records_of`), and an IANA time zone that cuts the days.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from smileback_pipeline.sandbox import ENDPOINTS, World

Record = dict[str, Any]
Records = Mapping[str, list[Record]]
Member = tuple[str, str]  # dimension, name

LISTS = {"board": "csat-boards", "company": "csat-companies", "contact": "csat-contacts"}


class ScoreKey(NamedTuple):
    metric: str
    grain: str
    period_start: date | None
    dimension: str
    member: str


class Score(NamedTuple):
    count_responses: int
    value: float


# What is there


def records_of(world: World) -> dict[str, list[Record]]:
    """What a perfect replica of the world holds: no deleted reviews, and no records that cannot be right."""
    return {
        endpoint: [record for record in world.live(endpoint) if is_valid(endpoint, record)] for endpoint in ENDPOINTS
    }


def is_valid(endpoint: str, record: Record) -> bool:
    match endpoint:
        case "reviews":
            ticket = record.get("ticket") or {}
            stamps = [record.get("rated_on"), record.get("last_modified"), ticket.get("closed_on")]
            return (
                _is_whole(record.get("id"))
                and (record.get("rating") is None or _is_whole(record["rating"], -1, 1))
                and all(stamp is None or _is_readable(stamp) for stamp in [*stamps, record.get("viewed_on")])
                and any(stamp is not None for stamp in stamps)
            )
        case "nps-responses":
            is_scored = _is_whole(record.get("score"), 0, 10)
            return _is_whole(record.get("id")) and is_scored and _is_readable(record.get("created_at"))
        case "prj-responses":
            response = record.get("response") or {}
            ratings = response.get("ratings") or []
            return (
                not _is_blank(response.get("id"))
                and _is_readable(response.get("date"))
                and all(_is_whole(rating.get("rating"), 1, 5) for rating in ratings)
            )
        case _:
            return not _is_blank(record.get("id"))


# The daily marts: rows as tuples in the order of the contract's columns, sorted


def csat_daily(records: Records, timezone: str) -> list[tuple[date, int, int, int, int, float]]:
    """date_day, count_ratings, count_positive, count_neutral, count_negative, net_csat."""
    days: dict[date, Counter[int]] = defaultdict(Counter)
    for review in _rated(records):
        days[_day(_rated_at(review), timezone)][int(review["rating"])] += 1
    return [(day, n.total(), n[1], n[0], n[-1], 100 * (n[1] - n[-1]) / n.total()) for day, n in sorted(days.items())]


def csat_response_daily(records: Records, timezone: str) -> list[tuple[date, int, int, float]]:
    """date_day, count_reviews, count_rated, response_rate."""
    days: dict[date, list[bool]] = defaultdict(list)
    for review in _reviews(records):
        days[_day(_surveyed_at(review), timezone)].append(review["rating"] is not None)
    return [(day, len(rated), sum(rated), sum(rated) / len(rated)) for day, rated in sorted(days.items())]


def nps_daily(records: Records, timezone: str) -> list[tuple[date, int, int, int, int, float]]:
    """date_day, count_responses, count_promoters, count_passives, count_detractors, nps."""
    days: dict[date, Counter[int]] = defaultdict(Counter)
    for response in records["nps-responses"]:
        days[_day(response["created_at"], timezone)][_nps_side(response)] += 1
    return [(day, n.total(), n[1], n[0], n[-1], 100 * (n[1] - n[-1]) / n.total()) for day, n in sorted(days.items())]


def project_survey_daily(records: Records, timezone: str) -> list[tuple[date, str | None, str | None, int, int, float]]:
    """date_day, survey_name, category, count_ratings, sum_ratings, average_rating."""
    groups: dict[tuple[date, str | None, str | None], list[int]] = defaultdict(list)
    for response, rating in _project_ratings(records):
        day = _day(response["date"], timezone)
        groups[day, response.get("survey_name"), rating.get("question")].append(int(rating["rating"]))
    in_order = sorted(groups.items(), key=lambda group: (group[0][0], group[0][1] or "", group[0][2] or ""))
    return [(*key, len(ratings), sum(ratings), sum(ratings) / len(ratings)) for key, ratings in in_order]


# The scores


def scores(records: Records, timezone: str) -> dict[ScoreKey, Score]:
    """Every row of `marts.scores`."""
    # For each score, by category: the sum and the number of what is averaged. Only projects have categories.
    sums: dict[ScoreKey, dict[str | None, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))

    def count(metric: str, at: str, value: int, members: list[Member], category: str | None = None) -> None:
        for dimension, member in {("all", "all"), *members}:
            for grain, period_start in _periods(_day(at, timezone)).items():
                total = sums[ScoreKey(metric, grain, period_start, dimension, member)][category]
                total[0] += value
                total[1] += 1

    names = {dimension: member_names(records, dimension) for dimension in LISTS}
    for review in _reviews(records):
        members = _review_members(review, names)
        is_rated = review["rating"] is not None
        count("response_rate", _surveyed_at(review), int(is_rated), members)
        if is_rated:
            count("net_csat", _rated_at(review), 100 * int(review["rating"]), members)
    for response in records["nps-responses"]:
        company = (response.get("contact") or {}).get("company")
        members = _named(("campaign", response.get("campaign_name")), ("company", company))
        count("nps", response["created_at"], 100 * _nps_side(response), members)
    for response, rating in _project_ratings(records):
        category = rating.get("question")
        survey, company = response.get("survey_name"), response.get("project_company")
        members = _named(("survey", survey), ("category", category), ("company", company))
        count("project_survey_score", response["date"], int(rating["rating"]), members, category)

    def score(by_category: dict[str | None, list[int]]) -> Score:
        means = [total / number for total, number in by_category.values()]
        return Score(sum(number for _, number in by_category.values()), math.fsum(means) / len(means))

    return {key: score(by_category) for key, by_category in sums.items()}


def member_names(records: Records, dimension: str) -> dict[str, str]:
    """For "board", "company" or "contact": the name of each id, as the scores call it.

    The name in SmileBack's own list, else in the review that was modified last (of those that have one), else the id;
    with the id behind it where several ids would be called the same.
    """
    recent_names: dict[str, tuple[tuple[datetime, int], str]] = {}
    ids = set()
    for review in _reviews(records):
        thing = _thing(review, dimension)
        if _is_blank(thing.get("id")):
            continue
        ids.add(thing_id := str(thing["id"]))
        if not _is_blank(thing.get("name")):
            age = (_instant(review.get("last_modified") or "0001-01-01T00:00:00Z"), int(review["id"]))
            recent_names[thing_id] = max(recent_names.get(thing_id, (age, thing["name"])), (age, thing["name"]))
    listed = {str(thing["id"]): thing.get("name") for thing in records[LISTS[dimension]]}
    called = {}
    for thing_id in ids | set(listed):
        _, recent = recent_names.get(thing_id, (None, thing_id))
        called[thing_id] = str(recent if _is_blank(listed.get(thing_id)) else listed[thing_id])
    bearers = Counter(called.values())
    return {thing_id: name if bearers[name] == 1 else f"{name} ({thing_id})" for thing_id, name in called.items()}


def is_same(actual: object, expected: object) -> bool:
    """Whether rows or scores are equal, but for the last digits of a float."""
    match actual, expected:
        case float(), int() | float():
            return math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-9)
        case ((list() | tuple()), (list() | tuple())):
            return len(actual) == len(expected) and all(map(is_same, actual, expected))
        case dict(), dict():
            return actual.keys() == expected.keys() and all(is_same(actual[key], expected[key]) for key in actual)
        case _:
            return actual == expected


# Rules


def _reviews(records: Records) -> Iterator[Record]:
    return (review for review in records["reviews"] if review.get("status") != "deleted")


def _rated(records: Records) -> Iterator[Record]:
    return (review for review in _reviews(records) if review["rating"] is not None)


def _rated_at(review: Record) -> str:
    return review.get("rated_on") or review.get("last_modified") or review["ticket"]["closed_on"]


def _surveyed_at(review: Record) -> str:
    return (review.get("ticket") or {}).get("closed_on") or review.get("rated_on") or review["last_modified"]


def _nps_side(response: Record) -> int:
    """1 for a promoter, 0 for a passive, -1 for a detractor."""
    score = int(response["score"])
    return 1 if score >= 9 else 0 if score >= 7 else -1


def _project_ratings(records: Records) -> Iterator[tuple[Record, Record]]:
    for record in records["prj-responses"]:
        for rating in record["response"].get("ratings") or []:
            yield record["response"], rating


def _thing(review: Record, dimension: str) -> Record:
    if dimension == "board":
        return (review.get("ticket") or {}).get("segment") or {}
    return review.get(dimension) or {}


def _review_members(review: Record, names: Mapping[str, Mapping[str, str]]) -> list[Member]:
    agents = (review.get("ticket") or {}).get("agents") or []
    members = _named(*(("agent", agent) for agent in agents))
    for dimension in LISTS:
        thing_id = _thing(review, dimension).get("id")
        if not _is_blank(thing_id):
            members.append((dimension, names[dimension][str(thing_id)]))
    return members


def _named(*members: tuple[str, str | None]) -> list[Member]:
    return [(dimension, member) for dimension, member in members if member is not None and not _is_blank(member)]


@cache
def _periods(day: date) -> dict[str, date | None]:
    return {
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "quarter": day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
        "year": day.replace(month=1, day=1),
        "all": None,
    }


@cache
def _day(stamp: str, timezone: str) -> date:
    return _instant(stamp).astimezone(ZoneInfo(timezone)).date()


def _instant(stamp: str) -> datetime:
    instant = datetime.fromisoformat(stamp)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _is_readable(stamp: object) -> bool:
    try:
        _instant(stamp)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _is_whole(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether it is a whole number in a range, be it a string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        number = Fraction(value)
    except (ValueError, ZeroDivisionError):
        return False
    return number.denominator == 1 and least <= number <= most


def _is_blank(value: object) -> bool:
    return value is None or not str(value).strip()
