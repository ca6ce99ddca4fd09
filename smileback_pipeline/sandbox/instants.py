"""Instants as the sandbox reckons with them, whole microseconds since 1970 in UTC, and the MSP's office hours."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from random import Random
from typing import Literal
from zoneinfo import ZoneInfo

TIMEZONE = "America/Chicago"  # of the MSP

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ZONE = ZoneInfo(TIMEZONE)


def microseconds(instant: datetime) -> int:
    """An aware datetime as microseconds since 1970, exactly."""
    return (instant - _EPOCH_UTC) // _MICROSECOND


def iso(at: int, fraction: Literal["auto", "milliseconds"] = "auto") -> str:
    """An instant without its zone; the fraction is left out when it is zero, as on the wire."""
    timespec = fraction if at % SECOND else "seconds"
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec=timespec)


def stamp(at: int) -> str:
    """An instant as the list of reviews writes it."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat() + "Z"


def date_of(at: int) -> date:
    return (_EPOCH + timedelta(microseconds=at)).date()


@cache
def day_begins(day: date) -> int:
    """Twelve hours before the MSP's noon, so that its office hours are right when its clocks change."""
    return microseconds(datetime.combine(day, time(12), _ZONE)) - 12 * HOUR


def next_at_work(rng: Random, at: int, day: date) -> int:
    """`at`, or the next moment after it when the MSP works; `day` is one not long before it."""
    return _next_within(rng, at, day, 8, 18, skips_weekend=True)


def next_awake(rng: Random, at: int, day: date) -> int:
    """`at`, or the next moment after it when customers read their mail; `day` is one not long before it."""
    return _next_within(rng, at, day, 7, 22, skips_weekend=False)


def _next_within(rng: Random, at: int, day: date, opens: int, closes: int, *, skips_weekend: bool) -> int:
    midnight = day_begins(day)
    days, into_day = divmod(at - midnight, DAY)
    if into_day >= closes * HOUR:
        days, into_day = days + 1, 0
    while skips_weekend and (day.weekday() + days) % 7 > 4:
        days, into_day = days + 1, 0
    if into_day < opens * HOUR:
        into_day = opens * HOUR + int(rng.random() ** 2 * 2 * HOUR)
    return midnight + days * DAY + into_day
