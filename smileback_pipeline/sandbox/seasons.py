"""The times the sandbox's MSP goes through: busy and quiet days, outages, and the moods of its customers by month."""

import math
from bisect import bisect
from datetime import date, timedelta
from functools import cache
from itertools import accumulate
from random import Random

from smileback_pipeline.sandbox.cast import Cast, Company

TICKETS_A_WORKDAY = 19
OUTAGE_DAYS = 4
GLOOM_DAYS = 28  # for so long an outage is remembered
QUESTION_MOVED_ON = date(2025, 11, 3)

_BY_WEEKDAY = (1.22, 1.12, 1.02, 0.98, 0.86, 0.07, 0.04)
_BY_MONTH = (1.1, 1.0, 1.02, 0.98, 0.96, 0.94, 0.88, 1.08, 1.12, 1.04, 0.94, 0.82)
_HOLIDAYS = {(1, 1), (7, 4), (12, 24), (12, 25), (12, 26), (12, 31)}


class Seasons:
    """Months are counted from that of the start. Moods are in logits of a positive rating."""

    def __init__(self, seed: int, start: date, scale: float, cast: Cast) -> None:
        self.seed, self.start, self.scale, self.cast = seed, start, scale, cast
        # What is asked for again on every day, or by every ticket.
        self.outage = cache(self._outage)
        self.customers = cache(self._customers)

    def month(self, day: date) -> int:
        return (day.year - self.start.year) * 12 + day.month - self.start.month

    def climate(self, day: date) -> float:
        """The mood of the average customer."""
        return 2.75 + 0.3 * math.sin(math.tau * self.month(day) / 30) - 2.5 * self.gloom(day)

    def willingness(self, day: date) -> float:
        """How readily surveys are answered: ever less, until the question moves to the top of the e-mail."""
        years = (day - self.start).days / 365
        return max(0.7, 1.15 - 0.16 * years) + (0.28 if day >= QUESTION_MOVED_ON else 0.0)

    def _outage(self, year: int) -> date:
        """The Tuesday on which, once a year, the shared infrastructure fails."""
        rng = Random(f"{self.seed}/outage/{year}")
        day = date(year, rng.randint(2, 11), rng.randint(3, 20))
        return day + timedelta(days=1 - day.weekday())

    def gloom(self, day: date) -> float:
        """1 during an outage, then half of it, fading."""
        since = (day - self.outage(day.year)).days
        if not 0 <= since < GLOOM_DAYS:
            return 0.0
        return 1.0 if since < OUTAGE_DAYS else 0.5 * (1 - since / GLOOM_DAYS)

    def tickets(self, rng: Random, day: date) -> int:
        """How many are closed on a day."""
        growth = 1 + 0.14 * min((day - self.start).days / 365, 5)
        expected = TICKETS_A_WORKDAY * self.scale * growth * _BY_WEEKDAY[day.weekday()] * _BY_MONTH[day.month - 1]
        if 0 <= (day - self.outage(day.year)).days < OUTAGE_DAYS:
            expected *= 2.4
        if _is_holiday(day):
            expected *= 0.08
        return int(expected * rng.lognormvariate(0, 0.12) + rng.random())

    def _customers(self, month: int) -> "Customers":
        year, month_of_year = divmod(self.start.month - 1 + month, 12)
        return Customers(self, month, date(self.start.year + year, month_of_year + 1, 1))


class Customers:
    """The companies that have a contract in a month, each with its mood."""

    def __init__(self, seasons: Seasons, month: int, first_day: date) -> None:
        self.companies = [
            company
            for company in seasons.cast.companies
            if company.joined_on <= first_day and (company.leaves_in is None or month < company.leaves_in)
        ]
        noise = Random(f"{seasons.seed}/moods/{month}")
        self.moods = [company.mood(month) + noise.gauss(0, 0.25) for company in self.companies]
        self._volumes = list(accumulate(company.volume(month) for company in self.companies))

    def pick(self, rng: Random) -> tuple[Company, float]:
        """The company that opens a ticket or has a project, and its mood."""
        picked = bisect(self._volumes, rng.random() * self._volumes[-1])
        return self.companies[picked], self.moods[picked]


def _is_holiday(day: date) -> bool:
    is_thanksgiving = day.month == 11 and day.weekday() in (3, 4) and 22 <= day.day - (day.weekday() - 3) <= 28
    return is_thanksgiving or (day.month, day.day) in _HOLIDAYS
