"""The life of a review in the sandbox: asked for when a ticket closes, then perhaps rated, handled, moved, deleted."""

import math
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from operator import attrgetter
from random import Random
from typing import Any

from smileback_pipeline.sandbox import phrases
from smileback_pipeline.sandbox.cast import Agent, Board, Company, Contact
from smileback_pipeline.sandbox.instants import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    date_of,
    day_begins,
    microseconds,
    next_at_work,
    next_awake,
    stamp,
)
from smileback_pipeline.sandbox.lives import Event, Life
from smileback_pipeline.sandbox.seasons import Seasons

FIRST_ID = 30_000_000
ODD = 0.003  # the share of reviews that have any one of the rare shapes
# A change of policy on a quiet Saturday touched every review of the account at one instant, on a whole second.
POLICY_CHANGE_AT = microseconds(datetime(2024, 9, 14, 3, tzinfo=UTC))


def lives_beginning_on(day: date, seasons: Seasons) -> Iterator[Life]:
    """A review for each ticket closed on a day. Their ids grow with time, and follow from the day alone."""
    rng = Random(f"{seasons.seed}/reviews/{day}")
    customers = seasons.customers(seasons.month(day))
    boards = seasons.cast.boards
    board_limits = list(accumulate(board.share for board in boards))
    agents_at = {
        board.id: [agent for agent in seasons.cast.agents if board.id in agent.board_ids and agent.is_active(day)]
        for board in boards
    }
    climate, is_outage, clean_up = seasons.climate(day), seasons.gloom(day) > 0.4, _clean_up(seasons.seed, day)
    ids_a_day = 10_000 * math.ceil(seasons.scale / 20)
    next_id = FIRST_ID + (day - seasons.start).days * ids_a_day
    for closed in sorted(_closing(rng, day) for _ in range(seasons.tickets(rng, day))):
        next_id += rng.randint(1, 3)
        company, mood = customers.pick(rng)
        board = boards[min(bisect(board_limits, rng.random()), len(boards) - 1)]
        agents = [rng.choice(agents_at[board.id])]
        if rng.random() < 0.08:
            agents.append(rng.choice(agents_at["1"]))
        ticket = _Ticket(
            rng=rng,
            id=next_id,
            day=day,
            closed=closed,
            company=company,
            contact=rng.choice(company.contacts),
            board=board,
            agents=agents,
            topic=rng.choice(board.topics),
            feeling=climate + mood + board.ease + sum(agent.skill for agent in agents) / len(agents),
            is_outage=is_outage,
        )
        yield Life("reviews", next_id, ticket.events(seasons, clean_up))


@dataclass(slots=True)
class _Ticket:
    """A closed ticket, out of which a review comes."""

    rng: Random
    id: int
    day: date
    closed: int
    company: Company
    contact: Contact
    board: Board
    agents: list[Agent]
    topic: str
    feeling: float  # the logit of a positive rating
    is_outage: bool

    def events(self, seasons: Seasons, clean_up: int) -> list[Event]:
        rng = self.rng
        asked = self.closed + rng.randint(20 * SECOND, 200 * SECOND)
        events = [Event(asked, self._asked_for())]
        annoyed = 1.15 if self.feeling < 1 else 1.0  # who is annoyed answers more often
        chance = self.company.answers * self.board.answers * self.contact.answers * annoyed
        is_rated = rng.random() < chance * seasons.willingness(self.day)
        if is_rated:
            events += self._rated(asked, clean_up)
        if rng.random() < (0.02 if is_rated else 0.004):
            events += self._upheavals(asked, seasons)
        if asked < POLICY_CHANGE_AT:
            events.append(Event(POLICY_CHANGE_AT, {"has_marketing_permission": False}))
        events.sort(key=attrgetter("at"))
        return list(_without_those_of_the_deleted(events))

    def _asked_for(self) -> dict[str, Any]:
        """The review as long as nobody has answered, in one of the rare shapes now and then."""
        rng, ticket_id = self.rng, str(self.id - 27_000_000)
        names: list[str | None] = list(dict.fromkeys(agent.name for agent in self.agents))
        if self.agents[0].is_typed_by_hand and rng.random() < 0.05:
            names[0] = self.agents[0].name.lower()
        ticket: dict[str, Any] = {
            "id": ticket_id,
            "title": phrases.title(rng, self.topic),
            "segment": {"id": self.board.id, "name": self.board.name_on(self.day)},
            "agents": names,
            "closed_on": stamp(self.closed),
        }
        review: dict[str, Any] = {
            "id": self.id,
            "rating": None,
            "comment": None,
            "ticket": ticket,
            "contact": _contact(self.contact),
            "company": company_fields(self.company, self.day),
            "status": "open",
            "tags": [],
            "has_marketing_permission": False,
            "viewed_on": None,
            "rated_on": None,
            "permalink": f"https://app.smileback.io/reviews/{ticket_id}/",
            "last_modified": None,  # stamped by whoever applies the events
        }
        match int(rng.random() / ODD):
            case 0:
                ticket["segment"] = None
            case 1:
                ticket["agents"] = None
            case 2:
                ticket["agents"] = []
            case 3:
                ticket["agents"] = [names[0], names[0]]
            case 4:
                ticket["agents"] = [*names, rng.choice(("", None))]
            case 5:
                ticket |= {"title": None} if rng.random() < 0.5 else {"closed_on": None}
            case 6:
                review["company"] |= {"territory_name": None, "territory_remote_id": None}
            case 7:
                review["contact"] = None
            case 8:
                review |= {"contact": None, "company": None}
            case 9:
                review["tags" if rng.random() < 0.5 else "ticket"] = None
        return review

    def _rated(self, asked: int, clean_up: int) -> Iterator[Event]:
        rng = self.rng
        median_hours = 1.2 if rng.random() < 0.7 else 30.0  # most answer at once, or not before the next day
        clicked = next_awake(rng, asked + int(rng.lognormvariate(math.log(median_hours), 1.1) * HOUR), self.day)
        if rng.random() < 0.01:
            clicked -= clicked % SECOND
        rating = _rating(rng, self.feeling)
        comment = phrases.comment(rng, rating, self.topic, self.agents[0].name, self.is_outage)
        fields: dict[str, Any] = {
            "rating": str(rating) if rng.random() < ODD else rating,
            "comment": comment,
            "rated_on": stamp(clicked),
            "has_marketing_permission": rating == 1 and rng.random() < 0.2,
        }
        yield Event(clicked + rng.randint(0, 40 * SECOND), fields)  # a comment is written after the click
        after = clicked + MINUTE
        if rng.random() < (0.96 if rating == -1 else 0.7):
            hours = rng.expovariate(1 / (3 if rating == -1 else 20))
            viewed = next_at_work(rng, after + int(hours * HOUR), self.day)
            yield Event(viewed + rng.randrange(SECOND), {"viewed_on": stamp(viewed)})
            after = viewed + MINUTE
        if rating == 1:
            if rng.random() < 0.6:
                yield Event(max(clean_up, after), {"status": "done"})
            if comment and rng.random() < 0.08:
                yield Event(after + rng.randrange(2 * HOUR), {"tags": ["testimonial"]})
        elif rng.random() < 0.78:
            after = next_at_work(rng, after + int(rng.expovariate(1 / 60) * HOUR), self.day) + rng.randrange(SECOND)
            yield Event(after, {"status": "done", "tags": rng.choice(phrases.TAGS)})
        if rng.random() < (0.02 if rating == 1 else 0.09):
            changed = next_awake(rng, after + int(rng.expovariate(1 / 70) * HOUR), self.day)
            fields = {"rating": rng.choice({-1: (1, 1, 0), 0: (1, 1, -1), 1: (0, -1, -1)}[rating])}
            if rng.random() < 0.7:  # by another click; else the MSP has corrected it, and the click keeps its time
                fields["rated_on"] = stamp(changed)
            yield Event(changed + rng.randrange(20 * SECOND), fields)

    def _upheavals(self, asked: int, seasons: Seasons) -> Iterator[Event]:
        """A move to another company's contact, or a deletion, sometimes taken back."""
        rng = self.rng
        at = asked + HOUR + int(rng.expovariate(1 / 20) * DAY)
        if rng.random() < 0.5:
            company, _ = seasons.customers(seasons.month(self.day)).pick(rng)
            contact = rng.choice(company.contacts)
            yield Event(at, {"contact": _contact(contact), "company": company_fields(company, date_of(at))})
            return
        yield Event(at, {"status": "deleted"})
        if rng.random() < 0.15:
            yield Event(at + MINUTE + int(rng.expovariate(1 / 3) * DAY), {"status": "open"})


def _without_those_of_the_deleted(events: list[Event]) -> Iterator[Event]:
    """Nothing happens to a deleted review, unless it is restored."""
    is_deleted = False
    for event in events:
        status = event.fields["status"] if event.fields and "status" in event.fields else None
        if not is_deleted or status == "open":
            is_deleted = status == "deleted"
            yield event


def company_fields(company: Company, day: date) -> dict[str, Any]:
    return {
        "id": company.id,
        "name": company.name_on(day),
        "territory_name": company.territory,
        "territory_remote_id": company.territory_id,
        "market_name": company.market,
        "market_remote_id": company.market_id,
    }


def _contact(contact: Contact) -> dict[str, Any]:
    return {"id": contact.id, "name": contact.name, "email": contact.email}


def _closing(rng: Random, day: date) -> int:
    hour = rng.uniform(0, 24) if rng.random() < 0.03 else rng.triangular(7.5, 18.5, 14.5)
    return day_begins(day) + int(hour * 3600) * SECOND  # the PSA knows whole seconds only


def _clean_up(seed: int, day: date) -> int:
    """The instant, early next month, at which most of this month's happy reviews are set to done all at once."""
    first = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    while first.weekday() > 4:
        first += timedelta(days=1)
    return day_begins(first) + 8 * HOUR + Random(f"{seed}/clean-up/{first}").randrange(HOUR)


def _rating(rng: Random, feeling: float) -> int:
    if rng.random() < 1 / (1 + math.exp(-feeling)):
        return 1
    return 0 if rng.random() < 1 / (1 + math.exp(0.1 - 0.35 * feeling)) else -1
