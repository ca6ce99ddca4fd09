"""Who lives in the sandbox: boards, agents, companies and contacts of one invented MSP, and how content they are.

All of it follows from the seed alone. What they *do* on a day is in `history.py`.
"""

import math
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from random import Random

from faker import Faker

MARKETS = {
    "Healthcare": ("Dental Group", "Family Clinic", "Orthopedics", "Home Care"),
    "Legal": ("Law", "& Partners LLP", "Legal Aid"),
    "Manufacturing": ("Tooling", "Plastics", "Machine Works", "Packaging"),
    "Finance": ("Accounting", "Wealth Advisors", "Credit Union"),
    "Construction": ("Builders", "Roofing", "Civil Engineering"),
    "Education": ("Academy", "Montessori School", "Learning Center"),
    "Retail": ("Outfitters", "Garden Center", "Hardware", "Foods"),
    "Nonprofit": ("Foundation", "Shelter", "Community Trust"),
}
JOBS = ("Office Manager", "Controller", "CEO", "Receptionist", "Engineer", "Nurse", "Partner", "")
TERRITORIES = ("Chicago", "Milwaukee", "Madison", "Remote")
# What no list of common American names would ever send.
UNUSUAL_NAMES = (
    ("Zoë", "Brønsted"),
    ("Siobhán", "O'Brien"),
    ("伟", "李"),
    ("Łukasz", "Żółć"),
    ("Jean-Luc", "d'Arcy"),
    ("Nguyễn", "Thị Hồng"),
    ("José", "Muñoz Ibáñez"),
    ("محمد", "الأحمد"),
    ("Renée", "Null"),
    ("Björk", "Sigurðardóttir"),
)


@dataclass(frozen=True)
class Board:
    id: str
    name: str
    share: float  # of all tickets
    ease: float  # added to the mood of a customer, in logits
    answers: float  # factor on the chance that a survey is answered
    topics: tuple[str, ...]
    new_name: str | None = None  # from `renamed_on`


BOARD_RENAMED_ON = date(2025, 7, 1)
BOARDS = (
    Board(
        "1", "Service Desk", 0.40, 0.25, 1.1, ("Outlook", "printer", "laptop", "Teams", "monitor", "password")
    ),
    Board("2", "Network", 0.12, -0.25, 0.9, ("Wi-Fi", "VPN", "firewall", "switch", "internet line")),
    Board(
        "3", "Cloud & M365", 0.14, 0.0, 1.0, ("mailbox", "SharePoint", "OneDrive sync", "calendar", "licence")
    ),
    Board("4", "Security", 0.07, -0.1, 0.8, ("MFA prompt", "phishing mail", "antivirus alert", "account")),
    Board(
        "5",
        "Onsite",
        0.08,
        0.5,
        1.3,
        ("docking station", "meeting room screen", "cabling", "phone"),
        "Field Services",
    ),
    Board(
        "6", "Onboarding", 0.07, 0.1, 1.0, ("new starter", "laptop build", "access rights", "account closure")
    ),
    Board("7", "Procurement", 0.07, -0.45, 0.9, ("quote", "delivery", "warranty claim", "order")),
    Board("8", "Backups", 0.05, -0.05, 0.5, ("restore", "backup report", "missing file")),
)


@dataclass(frozen=True)
class Agent:
    id: str
    name: str
    email: str
    skill: float  # in logits
    board_ids: frozenset[str]
    joined_on: date
    left_on: date | None

    def is_active(self, day: date) -> bool:
        return self.joined_on <= day and (self.left_on is None or day < self.left_on)


@dataclass(frozen=True)
class Contact:
    id: str
    first_name: str
    last_name: str
    email: str
    title: str
    answers: float  # factor on the chance that this person answers

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


@dataclass(frozen=True)
class Company:
    id: str
    name: str
    market: str
    market_id: str
    territory: str
    territory_id: str
    volume: float  # relative number of tickets
    answer_rate: float
    base_mood: float
    wave: tuple[float, float, float]  # amplitude in logits, period in months, phase
    sours_in: int | None  # month, counted from the start, in which things begin to go wrong
    is_lost: bool  # leaves after the bad half-year instead of coming round
    joined_on: date
    contacts: tuple[Contact, ...]
    renamed: tuple[date, str] | None = None
    _noise: dict[int, float] = field(default_factory=dict, compare=False, repr=False)

    def name_on(self, day: date) -> str:
        return self.renamed[1] if self.renamed and day >= self.renamed[0] else self.name

    def mood(self, month: int) -> float:
        """Logits above or below the average customer in the given month since the start."""
        if month not in self._noise:
            self._noise[month] = Random(f"mood/{self.id}/{self.name}/{month}").gauss(0, 0.25)
        amplitude, period, phase = self.wave
        mood = self.base_mood + amplitude * math.sin(math.tau * (month / period + phase)) + self._noise[month]
        return mood - 3.4 * self.souring(month)

    def souring(self, month: int) -> float:
        """0 while all is well, up to 1 at the bottom of the bad spell."""
        if self.sours_in is None:
            return 0.0
        since = month - self.sours_in
        if since <= 0:
            return 0.0
        return min(since / 5, 1.0) if self.is_lost or since <= 6 else max(0.0, 1 - (since - 6) / 4)

    @property
    def leaves_in(self) -> int | None:
        """The month, counted from the start, from which there are no more tickets."""
        return self.sours_in + 9 if self.is_lost and self.sours_in is not None else None


class Cast:
    """Everybody, for one seed; lists are sorted by id."""

    def __init__(self, seed: int, start: date) -> None:
        self._rng = Random(f"{seed}/cast")
        self._start = start
        self._fake = Faker("en_US", use_weighting=False)
        self._fake.seed_instance(seed)
        self.boards = BOARDS
        self.agents = tuple(self._hire())
        self.companies = tuple(self._sign())

    @cached_property
    def board_shares(self) -> list[float]:
        return [board.share for board in self.boards]

    def _hire(self) -> list[Agent]:
        rng, names = self._rng, set[str]()
        agents: list[Agent] = []
        while len(agents) < 26:
            first, last = self._fake.first_name(), self._fake.last_name()
            if first in names:
                continue  # comments call agents by their first name
            names.add(first)
            n = len(agents)
            joined = self._start if n < 16 else self._start + timedelta(days=60 + 95 * (n - 16))
            left = self._start + timedelta(days=rng.randint(240, 900)) if n in (3, 7, 11, 13, 17) else None
            boards = {"1"} | {board.id for board in rng.sample(BOARDS, 3)}
            if n < 16:
                boards.add(BOARDS[n % len(BOARDS)].id)  # nobody's absence empties a board
            agents.append(
                Agent(
                    id=str(11 + 3 * n),
                    name=f"{first} {last}",
                    email=f"{first}.{last}@msp.example".lower(),
                    skill={1: 1.3, 5: 0.9, 7: -1.5, 9: -1.1, 18: -0.9}.get(n, rng.gauss(0, 0.35)),
                    board_ids=frozenset(boards),
                    joined_on=joined,
                    left_on=left,
                )
            )
        return agents

    def _sign(self) -> list[Company]:
        rng = self._rng
        companies: list[Company] = []
        markets = list(MARKETS)
        contact_id, names = 2000, set[str]()
        while len(companies) < 80:
            n = len(companies)
            market = rng.choice(markets)
            name = f"{self._fake.last_name()} {rng.choice(MARKETS[market])}"
            if name in names:
                continue
            names.add(name)
            if n == 79:
                name = companies[12].name  # one customer, entered twice in the PSA
            size = rng.lognormvariate(0, 0.9)
            domain = re.sub(r"[^a-z]+", "", name.lower()) + ".example.com"
            contacts = []
            for _ in range(max(3, min(34, round(size * 6.5)))):
                contact_id += rng.randint(1, 4)
                contacts.append(self._contact(str(contact_id), domain))
            is_wavy = n % 3 == 0
            companies.append(
                Company(
                    id=str(500 + 7 * n),
                    name=name,
                    market=market,
                    market_id=str(10 + markets.index(market)),
                    territory=(territory := rng.choices(TERRITORIES, (6, 3, 2, 1))[0]),
                    territory_id=str(1 + TERRITORIES.index(territory)),
                    volume=size,
                    answer_rate=rng.triangular(0.16, 0.52, 0.33),
                    base_mood=rng.gauss(0.1, 0.4),
                    wave=(rng.uniform(0.9, 1.7) if is_wavy else 0.2, rng.uniform(9, 20), rng.random()),
                    sours_in=rng.randint(2, 66) if n % 3 == 1 else None,
                    is_lost=n % 6 == 1,
                    joined_on=self._start if n < 62 else self._start + timedelta(days=45 * (n - 61)),
                    contacts=tuple(contacts),
                    renamed=(date(2025, 3, 3), f"{name} Holdings") if n in (5, 40) else None,
                )
            )
        return companies

    def _contact(self, contact_id: str, domain: str) -> Contact:
        rng = self._rng
        unusual = rng.random() < 0.02
        first, last = (
            rng.choice(UNUSUAL_NAMES) if unusual else (self._fake.first_name(), self._fake.last_name())
        )
        local_part = f"user{contact_id}" if unusual else f"{first}.{last}".lower()
        return Contact(
            id=contact_id,
            first_name=first,
            last_name=last,
            email=f"{local_part}@{domain}",
            title=rng.choice(JOBS),
            answers=rng.triangular(0.5, 1.6, 1.0),
        )
