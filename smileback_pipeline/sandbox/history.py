"""What happens in the sandbox: for each day, the lives of the records that begin on it.

They follow from the seed and the day alone. So the state at any instant is a fold over the events up to it, whichever
process folds, and in however many steps.
"""

from collections.abc import Iterator
from datetime import date

from smileback_pipeline.sandbox import reviews, surveys
from smileback_pipeline.sandbox.cast import BOARD_RENAMED_ON, Cast
from smileback_pipeline.sandbox.instants import DAY, day_begins
from smileback_pipeline.sandbox.lives import Event, Life
from smileback_pipeline.sandbox.seasons import Seasons

START = date(2024, 1, 1)


class History:
    """`scale` multiplies the tickets, and so the reviews; not the people, the campaigns or the projects."""

    def __init__(self, seed: int, start: date, scale: float) -> None:
        self.seed, self.start = seed, start
        self.cast = Cast(seed, start)
        self.seasons = Seasons(seed, start, scale, self.cast)

    def lives_beginning_on(self, day: date) -> Iterator[Life]:
        if day == self.start:
            yield from self._lists(day_begins(day))
        yield from reviews.lives_beginning_on(day, self.seasons)
        yield from surveys.campaign_starting_on(day, self.seasons)
        if day.weekday() == 0:
            yield from surveys.project_responses_in_week(day, self.seasons)

    def _lists(self, opening: int) -> Iterator[Life]:
        """The auxiliary lists, in which people and companies come and go."""
        yield from surveys.surveys(self.seed, opening)
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
            # Tidied away some months after the last ticket.
            gone = [] if company.leaves_in is None else [Event(opening + (company.leaves_in + 3) * 30 * DAY, None)]
            events = [Event(joined, reviews.company_fields(company, company.joined_on))]
            if company.renamed:
                renamed_on, name = company.renamed
                events.append(Event(day_begins(renamed_on), {"name": name}))
            yield Life("csat-companies", company.id, events + gone)
            for contact in company.contacts:
                fields = {
                    "id": contact.id,
                    "name": contact.name,
                    "email": contact.email,
                    "title": contact.title,
                    "company_id": company.id,
                }
                yield Life("csat-contacts", contact.id, [Event(joined, fields), *gone])
