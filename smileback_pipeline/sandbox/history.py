"""What happens in the sandbox: for each day the lives of the records that begin on it.

A life is decided when it begins, from the seed and its day alone, and lists every later change with its instant. So the
state at any instant is a fold over the events up to it, whichever process folds and in however many steps.
"""

import math
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from smileback_pipeline.sandbox import phrases
from smileback_pipeline.sandbox.cast import BOARD_RENAMED_ON, Agent, Board, Cast, Company, Contact

TIMEZONE = "America/Chicago"  # of the MSP, whose office hours shape the days
START = date(2024, 1, 1)

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND
_EPOCH = datetime(1970, 1, 1)
_ZONE = ZoneInfo(TIMEZONE)

REVIEWS_A_WORKDAY = 19
FIRST_REVIEW_ID = 30_000_000
# A change of policy on a quiet Saturday touched every review of the account at one instant, on a whole second.
POLICY_CHANGE_AT = int(datetime(2024, 9, 14, 3, tzinfo=UTC).timestamp()) * SECOND
ODD = 0.003  # the share of records that have any one of the rare shapes

SURVEYS: tuple[tuple[str, dict[str, float]], ...] = (
    ("Project close-out", {
        "Communication": 4.3, "Budget management": 3.7, "Timeliness": 3.9, "Technical quality": 4.5, "Documentation": 3.6,
        "Overall satisfaction": 4.2,
    }),
    ("Onboarding check-in", {
        "Communication": 4.4, "Ease of transition": 3.9, "Training": 4.0, "Documentation": 3.8, "Overall satisfaction": 4.2,
    }),
    ("Migration review", {
        "Communication": 4.1, "Downtime": 3.5, "Timeliness": 3.8, "Data completeness": 4.6, "Overall satisfaction": 4.1,
    }),
)  # fmt: skip
PROJECTS = ("Server replacement", "M365 migration", "Office move", "Firewall renewal", "Laptop refresh", "Phone system",
            "Backup redesign", "Site network", "Tenant merge")  # fmt: skip


class Event(NamedTuple):
    at: int  # microseconds since 1970, UTC
    fields: dict[str, Any] | None  # what changes; all fields in the first event of a life; None: gone


@dataclass(frozen=True, slots=True)
class Life:
    endpoint: str
    key: int | str
    events: list[Event]


def stamp(at: int) -> str:
    """An instant as the reviews and NPS lists write it: the fraction is left out when it is zero."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat() + "Z"


def microseconds(instant: datetime) -> int:
    """An aware datetime as microseconds since 1970, exactly."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def day_begins(day: date) -> int:
    """Twelve hours before the MSP's noon, so that its office hours are right on the days its clocks change."""
    return microseconds(datetime.combine(day, time(12), _ZONE).astimezone(UTC)) - 12 * HOUR


class History:
    """The events of one invented MSP. `scale` multiplies its tickets, not its people, campaigns or projects."""

    def __init__(self, seed: int, start: date, scale: float) -> None:
        self.seed, self.start, self.scale = seed, start, scale
        self.cast = Cast(seed, start)
        self._ids_a_day = 10_000 * max(1, math.ceil(scale / 20))
        self._surveys = [
            (str(UUID(int=Random(f"{seed}/survey/{name}").getrandbits(128), version=4)), name, categories)
            for name, categories in SURVEYS
        ]
        self._board_limits = list(accumulate(self.cast.board_shares))

    def lives_beginning_on(self, day: date) -> Iterator[Life]:
        if day == self.start:
            yield from self._people()
            yield from self._surveys_of_the_account()
        yield from self._reviews(day)
        if (day.month % 3, day.day) == (2, 10):
            yield from self._campaign(day)
        if day.weekday() == 0:
            yield from self._projects(day)

    # The mood of the world

    def _month(self, day: date) -> int:
        return (day.year - self.start.year) * 12 + day.month - self.start.month

    @cache  # noqa: B019 - lives as long as the world it belongs to
    def outage(self, year: int) -> date:
        """The first of the four days on which, once a year, the shared infrastructure fails."""
        rng = Random(f"{self.seed}/outage/{year}")
        day = date(year, rng.randint(2, 11), rng.randint(3, 20))
        return day - timedelta(days=day.weekday()) + timedelta(days=1)  # a Tuesday

    def _gloom(self, day: date) -> float:
        """1 during an outage, fading over the four weeks after it."""
        since = (day - self.outage(day.year)).days
        return 0.0 if not 0 <= since < 28 else 1.0 if since < 4 else 0.5 * (1 - since / 28)

    @cache  # noqa: B019 - lives as long as the world it belongs to
    def _customers(self, month: int) -> tuple[list[Company], list[float], list[float]]:
        """The companies of a month, the running sum of their ticket volumes, and their moods."""
        year, month_of_year = divmod(self.start.month - 1 + month, 12)
        first = date(self.start.year + year, month_of_year + 1, 1)
        companies = [
            company
            for company in self.cast.companies
            if company.joined_on <= first and (company.leaves_in is None or month < company.leaves_in)
        ]
        volumes = [company.volume * (1 + 0.4 * company.souring(month)) for company in companies]
        return companies, list(accumulate(volumes)), [company.mood(month) for company in companies]

    def _tickets(self, day: date, rng: Random) -> int:
        weekday = (1.22, 1.12, 1.02, 0.98, 0.86, 0.07, 0.04)[day.weekday()]
        season = (1.1, 1.0, 1.02, 0.98, 0.96, 0.94, 0.88, 1.08, 1.12, 1.04, 0.94, 0.82)[day.month - 1]
        growth = 1 + 0.14 * min((day - self.start).days / 365, 5)
        is_holiday = (day.month, day.day) in {(1, 1), (7, 4), (12, 24), (12, 25), (12, 26), (12, 31)} or (
            day.month == 11 and day.weekday() in (3, 4) and 22 <= day.day - (day.weekday() == 4) <= 28
        )
        surge = 2.4 if 0 <= (day - self.outage(day.year)).days < 4 else 1.0
        expected = (
            REVIEWS_A_WORKDAY * self.scale * weekday * season * growth * surge * (0.08 if is_holiday else 1)
        )
        return int(expected * rng.lognormvariate(0, 0.12) + rng.random())

    # Reviews

    def _reviews(self, day: date) -> Iterator[Life]:
        rng = Random(f"{self.seed}/reviews/{day}")
        month, midnight, gloom = self._month(day), day_begins(day), self._gloom(day)
        companies, volumes, moods = self._customers(month)
        staff = {
            board.id: [a for a in self.cast.agents if board.id in a.board_ids and a.is_active(day)]
            for board in self.cast.boards
        }
        climate = 2.75 + 0.3 * math.sin(math.tau * month / 30) - 1.9 * gloom
        first_id = FIRST_REVIEW_ID + (day - self.start).days * self._ids_a_day
        clean_up = self._clean_up(day)
        closings = sorted(self._closing(rng, midnight) for _ in range(self._tickets(day, rng)))
        for n, closed in enumerate(closings):
            review_id = first_id + 3 * n + rng.randrange(3)
            pick = bisect(volumes, rng.random() * volumes[-1])
            company = companies[pick]
            board = self.cast.boards[min(bisect(self._board_limits, rng.random()), len(self.cast.boards) - 1)]
            contact = rng.choice(company.contacts)
            agents = [rng.choice(staff[board.id])]
            if rng.random() < 0.08:
                agents.append(rng.choice(staff["1"]))
            feeling = climate + moods[pick] + board.ease + sum(agent.skill for agent in agents) / len(agents)
            topic = rng.choice(board.topics)
            born = closed + rng.randint(20 * SECOND, 200 * SECOND)
            events = [
                Event(
                    born, self._unrated(rng, day, company, contact, board, agents, topic, review_id, closed)
                )
            ]
            chance = company.answer_rate * board.answers * contact.answers * (1.15 if feeling < 1 else 1.0)
            if rng.random() < chance:
                events += self._rated(
                    rng, born, midnight, day, feeling, topic, agents[0].name, gloom > 0.4, clean_up
                )
            events += self._upheavals(rng, born, companies, len(events) > 1)
            if born < POLICY_CHANGE_AT:
                events.append(Event(POLICY_CHANGE_AT, {"has_marketing_permission": False}))
            events.sort(key=_by_instant)
            yield Life("reviews", review_id, events)

    def _closing(self, rng: Random, midnight: int) -> int:
        hour = rng.uniform(0, 24) if rng.random() < 0.03 else rng.triangular(7.5, 18.5, 14.5)
        return midnight + int(hour * 3600) * SECOND  # the PSA knows whole seconds only

    def _unrated(
        self, rng: Random, day: date, company: Company, contact: Contact, board: Board, agents: list[Agent], topic: str,
        review_id: int, closed: int,
    ) -> dict[str, Any]:  # fmt: skip
        ticket_id = str(review_id - 27_000_000)
        is_renamed = board.new_name is not None and day >= BOARD_RENAMED_ON
        names: list[str | None] = list(dict.fromkeys(agent.name for agent in agents))
        odd = rng.random() / ODD  # below 10: one of ten rare shapes
        if agents[0].id == self.cast.agents[4].id and rng.random() < 0.03:
            names[0] = agents[0].name.lower()  # typed by hand in the PSA
        if odd < 1:
            names = names[:1] * 2
        elif odd < 1.2:
            names = [*names, ""]
        elif odd < 1.4:
            names = [*names, None]
        ticket: dict[str, Any] | None = {
            "id": ticket_id,
            "title": phrases.title(rng, topic) if odd < 9 or odd >= 10 else None,
            "segment": None
            if 2 <= odd < 3
            else {"id": board.id, "name": board.new_name if is_renamed else board.name},
            "agents": None if 3 <= odd < 4 else [] if 4 <= odd < 5 else names,
            "closed_on": None if 5 <= odd < 5.5 else stamp(closed),
        }
        has_territory = odd < 6 or odd >= 7
        return {
            "id": review_id,
            "rating": None,
            "comment": None,
            "ticket": None if 7 <= odd < 7.5 else ticket,
            "contact": None if 8 <= odd < 9 else _contact(contact),
            "company": None if 8 <= odd < 8.5 else _company(company, day, has_territory),
            "status": "open",
            "tags": None if 7.5 <= odd < 8 else [],
            "has_marketing_permission": False,
            "viewed_on": None,
            "rated_on": None,
            "permalink": f"https://app.smileback.io/reviews/{ticket_id}/",
            "last_modified": None,
        }

    def _rated(
        self, rng: Random, born: int, midnight: int, day: date, feeling: float, topic: str, agent: str, in_outage: bool,
        clean_up: int,
    ) -> Iterator[Event]:  # fmt: skip
        def at_work(at: int) -> int:
            return _next_within(at, midnight, day.weekday(), 8, 18, rng, skips_weekend=True)

        def awake(at: int) -> int:
            return _next_within(at, midnight, day.weekday(), 7, 22, rng, skips_weekend=False)

        median = 1.2 if rng.random() < 0.7 else 30.0  # hours: most answer at once or not before the next day
        rated = awake(born + int(rng.lognormvariate(math.log(median), 1.1) * HOUR))
        if rng.random() < 0.01:
            rated -= rated % SECOND
        rating = _rating(rng, feeling)
        said = phrases.comment(rng, rating, topic, agent, in_outage)
        yield Event(
            rated + rng.randint(0, 40 * SECOND),  # the comment is sent after the click
            {
                "rating": str(rating) if rng.random() < ODD else rating,
                "comment": said,
                "rated_on": stamp(rated),
                "has_marketing_permission": rating == 1 and rng.random() < 0.2,
            },
        )
        after = rated + MINUTE
        if rng.random() < (0.96 if rating == -1 else 0.7):
            viewed = at_work(after + int(rng.expovariate(1 / (3 if rating == -1 else 20)) * HOUR))
            yield Event(viewed + rng.randrange(SECOND), {"viewed_on": stamp(viewed)})
            after = viewed + MINUTE
        if rating == 1:
            if rng.random() < 0.6:
                yield Event(max(clean_up, after), {"status": "done"})
            if said and rng.random() < 0.08:
                yield Event(after + rng.randrange(2 * HOUR), {"tags": ["testimonial"]})
        elif rng.random() < 0.78:
            handled = at_work(after + int(rng.expovariate(1 / 60) * HOUR)) + rng.randrange(SECOND)
            tags = [["follow-up"], ["follow-up", "called back"], ["escalated"], ["training"]][
                int(4 * rng.random() ** 2)
            ]
            yield Event(handled, {"status": "done", "tags": tags})
            after = handled
        if rng.random() < (0.02 if rating == 1 else 0.09):
            changed = awake(after + int(rng.expovariate(1 / 70) * HOUR))
            better = {-1: (1, 1, 0), 0: (1, 1, -1), 1: (0, -1, -1)}[rating]
            fields: dict[str, Any] = {"rating": rng.choice(better)}
            if rng.random() < 0.7:  # otherwise corrected by the MSP, and the click keeps its time
                fields["rated_on"] = stamp(changed)
            yield Event(changed + rng.randrange(20 * SECOND), fields)

    def _upheavals(self, rng: Random, born: int, companies: list[Company], is_rated: bool) -> Iterator[Event]:
        """Moves to another contact and company, deletions, restorations."""
        if rng.random() > (0.02 if is_rated else 0.004):
            return
        at = born + int(rng.expovariate(1 / 20) * DAY) + HOUR
        if rng.random() < 0.5:
            company = rng.choice(companies)
            when = (_EPOCH + timedelta(microseconds=at)).date()
            fields = {
                "contact": _contact(rng.choice(company.contacts)),
                "company": _company(company, when, True),
            }
            yield Event(at, fields)
            return
        yield Event(at, {"status": "deleted"})
        if rng.random() < 0.15:
            yield Event(at + int(rng.expovariate(1 / 3) * DAY) + MINUTE, {"status": "open"})

    def _clean_up(self, day: date) -> int:
        """The instant, early next month, at which the happy reviews of this month are closed all at once."""
        first = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        while first.weekday() > 4:
            first += timedelta(days=1)
        return day_begins(first) + 8 * HOUR + Random(f"{self.seed}/clean-up/{first}").randrange(HOUR)

    # NPS and projects

    def _campaign(self, day: date) -> Iterator[Life]:
        rng = Random(f"{self.seed}/nps/{day}")
        month = self._month(day)
        name = f"{day.year} Q{(day.month + 2) // 3}"
        number = month // 3
        sent = day_begins(day) + 9 * HOUR
        yield Life("nps-campaigns", str(101 + number), [Event(sent, {"id": str(101 + number), "name": name})])
        companies, _, moods = self._customers(month)
        answers = []
        for company, mood in zip(companies, moods, strict=True):
            for contact in company.contacts:
                if rng.random() < 0.8 * company.answer_rate * contact.answers:
                    delay = int(min(rng.lognormvariate(math.log(20), 1.2), 24 * 24) * HOUR)
                    at = _next_within(
                        sent + delay, sent - 9 * HOUR, day.weekday(), 7, 22, rng, skips_weekend=False
                    )
                    answers.append((at - at % 1000, company, contact, mood))  # milliseconds
        answers.sort(key=lambda answer: answer[0])
        gloom = max(self._gloom(day), self._gloom(day + timedelta(days=7)))
        for n, (at, company, contact, mood) in enumerate(answers):
            score = _nps_score(rng, 8.7 + 1.25 * mood - 2.2 * gloom)
            response_id = 1000 * (number + 1) + n
            record = {
                "id": response_id,
                "score": score,
                "comment": _nps_comment(rng, score),
                "has_marketing_permission": score >= 9 and rng.random() < 0.4,
                "contact": None
                if rng.random() < ODD
                else {
                    "id": int(contact.id),
                    "first_name": contact.first_name,
                    "last_name": contact.last_name,
                    "email": contact.email,
                    "company": company.name_on(day) if rng.random() > ODD else None,
                    "title": contact.title,
                    "location": company.territory,
                },
                "contact_remote_id": contact.id,
                "campaign_name": name,
                "created_at": _stamp_in_milliseconds(at),
            }
            events = [Event(at, record)]
            if rng.random() < 0.01:
                better = min(10, score + rng.randint(1, 4))
                events.append(Event(at + rng.randint(HOUR, 20 * DAY), {"score": better}))
            yield Life("nps-responses", response_id, events)

    def _surveys_of_the_account(self) -> Iterator[Life]:
        for survey_id, name, _ in self._surveys:
            yield Life(
                "prj-surveys", survey_id, [Event(day_begins(self.start), {"id": survey_id, "name": name})]
            )

    def _projects(self, monday: date) -> Iterator[Life]:
        rng = Random(f"{self.seed}/projects/{monday}")
        companies, volumes, moods = self._customers(self._month(monday))
        for _ in range(rng.choice((2, 3, 3, 4, 5))):
            pick = bisect(volumes, rng.random() * volumes[-1])
            company, contact = companies[pick], rng.choice(companies[pick].contacts)
            _, survey, categories = rng.choices(self._surveys, (5, 2, 3))[0]
            at = day_begins(monday) + rng.randrange(5) * DAY + int(rng.triangular(8, 18) * HOUR)
            ratings = [
                {"question": question, "rating": _stars(rng, typical + 0.35 * moods[pick]), "seq_number": n}
                for n, (question, typical) in enumerate(categories.items(), start=1)
                if rng.random() > 0.04  # a question can be skipped
            ]
            response_id = str(UUID(int=rng.getrandbits(128), version=4))
            record = {
                "response": {
                    "id": response_id,
                    "ratings": ratings,
                    "comment": rng.choice(phrases.PROJECT_COMMENTS) if rng.random() < 0.4 else None,
                    "survey_name": survey,
                    "is_published": rng.random() < 0.1,
                    "has_marketing_permissions": rng.random() < 0.2,
                    "has_google_redirect": False,
                    "project_name": f"{rng.choice(PROJECTS)} {monday.year}",
                    "project_company": company.name_on(monday),
                    "project_phase": rng.choice((None, None, "Planning", "Roll-out")),
                    "date": (_EPOCH + timedelta(microseconds=at)).isoformat() + "+00:00",
                    "project_status": rng.choice(("5. Completed", "5. Completed", "4. Closing")),
                    "project_phase_status": None,
                },
                "contact": {
                    "first_name": contact.first_name,
                    "last_name": contact.last_name,
                    "email": contact.email,
                    "remote_id": contact.id if rng.random() < 0.7 else "",
                },
            }
            yield Life("prj-responses", response_id, [Event(at, record)])

    # The lists

    def _people(self) -> Iterator[Life]:
        opening = day_begins(self.start)
        for board in self.cast.boards:
            events = [Event(opening, {"id": board.id, "name": board.name})]
            if board.new_name:
                events.append(Event(day_begins(BOARD_RENAMED_ON), {"name": board.new_name}))
            yield Life("csat-boards", board.id, events)
        for agent in self.cast.agents:
            fields = {"id": agent.id, "name": agent.name, "email": agent.email, "is_active": True}
            events = [Event(day_begins(agent.joined_on), fields)]
            if agent.left_on:
                events.append(Event(day_begins(agent.left_on), {"is_active": False}))
            yield Life("csat-agents", agent.id, events)
        for company in self.cast.companies:
            joined = day_begins(company.joined_on)
            left = company.leaves_in
            # Tidied away some months after the last ticket.
            gone = [] if left is None else [Event(opening + (left + 3) * 30 * DAY, None)]
            events = [Event(joined, _company(company, company.joined_on, True))]
            if company.renamed:
                events.append(Event(day_begins(company.renamed[0]), {"name": company.renamed[1]}))
            yield Life("csat-companies", company.id, events + gone)
            for contact in company.contacts:
                fields = _contact(contact) | {"title": contact.title, "company_id": company.id}
                yield Life("csat-contacts", contact.id, [Event(joined, fields), *gone])


def _by_instant(event: Event) -> int:
    return event.at


def _contact(contact: Contact) -> dict[str, Any]:
    return {"id": contact.id, "name": contact.name, "email": contact.email}


def _company(company: Company, day: date, has_territory: bool) -> dict[str, Any]:
    return {
        "id": company.id,
        "name": company.name_on(day),
        "territory_name": company.territory if has_territory else None,
        "territory_remote_id": company.territory_id if has_territory else None,
        "market_name": company.market,
        "market_remote_id": company.market_id,
    }


def _next_within(
    at: int, midnight: int, weekday: int, opens: int, closes: int, rng: Random, *, skips_weekend: bool
) -> int:
    """`at`, or the next moment after it between two local hours; `midnight` and `weekday` are of some day before."""
    days, into_day = divmod(at - midnight, DAY)
    if into_day >= closes * HOUR:
        days, into_day = days + 1, 0
    while skips_weekend and (weekday + days) % 7 > 4:
        days, into_day = days + 1, 0
    if into_day < opens * HOUR:
        into_day = opens * HOUR + int(rng.random() ** 2 * 2 * HOUR)
    return midnight + days * DAY + into_day


def _rating(rng: Random, feeling: float) -> int:
    if rng.random() < 1 / (1 + math.exp(-feeling)):
        return 1
    return 0 if rng.random() < 1 / (1 + math.exp(0.1 - 0.35 * feeling)) else -1


def _nps_score(rng: Random, typical: float) -> int:
    return max(0, min(10, round(rng.gauss(typical, 1.5))))


def _nps_comment(rng: Random, score: int) -> str | None:
    if rng.random() < 0.6:
        return None
    if rng.random() < 0.02:
        return rng.choice(phrases.ODDITIES)
    return rng.choice(
        phrases.NPS_COMMENTS["promoter" if score > 8 else "passive" if score > 6 else "detractor"]
    )


def _stars(rng: Random, typical: float) -> int:
    return max(1, min(5, round(rng.gauss(typical, 0.7))))


def _stamp_in_milliseconds(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat(
        timespec="milliseconds" if at % SECOND else "seconds"
    ) + "Z"
