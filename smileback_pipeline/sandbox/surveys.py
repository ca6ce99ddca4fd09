"""The sandbox's NPS campaigns and project surveys, and the answers to them."""

import math
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Any
from uuid import UUID

from smileback_pipeline.sandbox import phrases
from smileback_pipeline.sandbox.cast import Company, Contact
from smileback_pipeline.sandbox.instants import DAY, HOUR, day_begins, iso, next_awake
from smileback_pipeline.sandbox.lives import Event, Life
from smileback_pipeline.sandbox.seasons import Seasons

ODD = 0.003  # the share of NPS responses that lack a contact, or its company

# By survey: its categories, with the average of the stars that each gets in the beginning, and their change in a year.
SURVEYS: dict[str, dict[str, tuple[float, float]]] = {
    "Project close-out": {
        "Communication": (4.3, 0.0),
        "Budget management": (3.9, -0.15),
        "Timeliness": (3.9, 0.0),
        "Technical quality": (4.5, 0.0),
        "Documentation": (3.2, 0.3),
        "Overall satisfaction": (4.1, 0.05),
    },
    "Onboarding check-in": {
        "Communication": (4.4, 0.0),
        "Ease of transition": (3.9, 0.0),
        "Training": (4.0, 0.05),
        "Documentation": (3.4, 0.3),
        "Overall satisfaction": (4.1, 0.05),
    },
    "Migration review": {
        "Communication": (4.1, 0.05),
        "Downtime": (3.7, -0.1),
        "Timeliness": (3.8, 0.0),
        "Data completeness": (4.6, 0.0),
        "Overall satisfaction": (4.1, 0.0),
    },
}
PROJECTS = {
    "Project close-out": (
        "Server replacement",
        "Firewall renewal",
        "Laptop refresh",
        "Backup redesign",
        "Phone system",
    ),
    "Onboarding check-in": ("Onboarding", "New site", "Acquisition"),
    "Migration review": ("M365 migration", "Tenant merge", "Office move", "ERP to the cloud"),
}


def surveys(seed: int, opening: int) -> Iterator[Life]:
    """The account's project surveys, there from its opening."""
    for name in SURVEYS:
        survey_id = _uuid(Random(f"{seed}/survey/{name}"))
        yield Life("prj-surveys", survey_id, [Event(opening, {"id": survey_id, "name": name})])


def campaign_starting_on(day: date, seasons: Seasons) -> Iterator[Life]:
    """On the tenth of each quarter's second month a campaign, and the responses to it over the next weeks."""
    if (day.month % 3, day.day) != (2, 10):
        return
    rng = Random(f"{seasons.seed}/nps/{day}")
    month = seasons.month(day)
    name, number = f"{day.year} Q{(day.month + 2) // 3}", month // 3 + 1
    sent = day_begins(day) + 9 * HOUR
    yield Life("nps-campaigns", str(100 + number), [Event(sent, {"id": str(100 + number), "name": name})])
    gloom = max(seasons.gloom(day), seasons.gloom(day + timedelta(days=7)))
    customers = seasons.customers(month)
    answers: list[tuple[int, Company, Contact, float]] = []
    for company, mood in zip(customers.companies, customers.moods, strict=True):
        for contact in company.contacts:
            if rng.random() < 0.8 * company.answers * contact.answers:
                hours = min(rng.lognormvariate(math.log(20), 1.2), 24 * 24)
                at = next_awake(rng, sent + int(hours * HOUR), day)
                answers.append((at - at % 1000, company, contact, 9.2 + 1.25 * mood - 2.2 * gloom))
    answers.sort(key=lambda answer: answer[0])
    for response_id, (at, company, contact, typical) in enumerate(answers, start=1000 * number):
        score = rng.choice((0, 1)) if rng.random() < 0.01 else max(0, min(10, round(rng.gauss(typical, 2.0))))
        respondent = _respondent(contact, company, day)
        odd = rng.random() / ODD
        response = {
            "id": response_id,
            "score": score,
            "comment": phrases.nps_comment(rng, score),
            "has_marketing_permission": score >= 9 and rng.random() < 0.4,
            "contact": None if odd < 1 else respondent | {"company": None} if odd < 2 else respondent,
            "contact_remote_id": contact.id,
            "campaign_name": name,
            "created_at": iso(at, "milliseconds") + "Z",
        }
        events = [Event(at, response)]
        if rng.random() < 0.01:
            events.append(Event(at + rng.randint(HOUR, 20 * DAY), {"score": min(10, score + rng.randint(1, 4))}))
        yield Life("nps-responses", response_id, events)


def project_responses_in_week(monday: date, seasons: Seasons) -> Iterator[Life]:
    rng = Random(f"{seasons.seed}/projects/{monday}")
    customers = seasons.customers(seasons.month(monday))
    years = min((monday - seasons.start).days / 365, 3)
    for _ in range(rng.choice((2, 3, 3, 4, 5))):
        company, mood = customers.pick(rng)
        contact = rng.choice(company.contacts)
        survey = rng.choices(list(SURVEYS), (5, 2, 3))[0]
        at = day_begins(monday) + rng.randrange(5) * DAY + int(rng.triangular(8, 18) * HOUR)
        response_id = _uuid(rng)
        response = {
            "id": response_id,
            "ratings": [
                {
                    "question": category,
                    "rating": _stars(rng, first + change * years + 0.35 * mood),
                    "seq_number": number,
                }
                for number, (category, (first, change)) in enumerate(SURVEYS[survey].items(), start=1)
                if rng.random() > 0.04  # a question can be skipped
            ],
            "comment": rng.choice(phrases.PROJECT_COMMENTS) if rng.random() < 0.4 else None,
            "survey_name": survey,
            "is_published": rng.random() < 0.1,
            "has_marketing_permissions": rng.random() < 0.2,
            "has_google_redirect": False,
            "project_name": f"{rng.choice(PROJECTS[survey])} {monday.year}",
            "project_company": company.name_on(monday),
            "project_phase": rng.choice((None, None, "Planning", "Roll-out")),
            "date": iso(at) + "+00:00",
            "project_status": rng.choice(("5. Completed", "5. Completed", "4. Closing")),
            "project_phase_status": None,
        }
        respondent = {
            "first_name": contact.first_name,
            "last_name": contact.last_name,
            "email": contact.email,
            "remote_id": contact.id if rng.random() < 0.7 else "",
        }
        yield Life("prj-responses", response_id, [Event(at, {"response": response, "contact": respondent})])


def _respondent(contact: Contact, company: Company, day: date) -> dict[str, Any]:
    return {
        "id": int(contact.id),
        "first_name": contact.first_name,
        "last_name": contact.last_name,
        "email": contact.email,
        "company": company.name_on(day),
        "title": contact.title,
        "location": company.territory,
    }


def _stars(rng: Random, typical: float) -> int:
    return max(1, min(5, round(rng.gauss(typical, 0.7))))


def _uuid(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))
