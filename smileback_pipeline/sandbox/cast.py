"""Who lives in the sandbox: boards, agents, companies and contacts of one invented MSP, and their moods.

All of it follows from the seed alone. What happens to them on a day is not here.
"""

import math
import re
from dataclasses import dataclass
from datetime import date, timedelta
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
    new_name: str | None = None

    def name_on(self, day: date) -> str:
        return self.new_name if self.new_name and day >= BOARD_RENAMED_ON else self.name


BOARD_RENAMED_ON = date(2025, 7, 1)
BOARDS = (
    Board("1", "Service Desk", 0.40, 0.25, 1.1, ("Outlook", "printer", "laptop", "Teams", "monitor", "password")),
    Board("2", "Network", 0.12, -0.25, 0.9, ("Wi-Fi", "VPN", "firewall", "switch", "internet line")),
    Board("3", "Cloud & M365", 0.14, 0.0, 1.0, ("mailbox", "SharePoint", "OneDrive sync", "calendar", "licence")),
    Board("4", "Security", 0.07, -0.1, 0.8, ("MFA prompt", "phishing mail", "antivirus alert", "account")),
    Board("5", "Onsite", 0.08, 0.5, 1.3, ("docking station", "meeting room", "cabling", "phone"), "Field Services"),
    Board("6", "Onboarding", 0.07, 0.1, 1.0, ("new starter", "laptop build", "access rights", "account closure")),
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
    is_typed_by_hand: bool  # the name, at times in lower case

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
    usual_volume: float  # of tickets, relative to the others
    answers: float  # the chance that a survey is answered
    usual_mood: float
    wave: tuple[float, float, float]  # of the mood: amplitude, period in months, phase
    sours_in: int | None  # the month, counted from the start, in which things begin to go wrong
    is_lost: bool  # by the bad spell, instead of coming round
    joined_on: date
    contacts: tuple[Contact, ...]
    renamed: tuple[date, str] | None

    def name_on(self, day: date) -> str:
        return self.renamed[1] if self.renamed and day >= self.renamed[0] else self.name

    def mood(self, month: int) -> float:
        """How much happier than the average customer, in logits of a positive rating."""
        amplitude, period, phase = self.wave
        wave = amplitude * math.sin(math.tau * (month / period + phase))
        return self.usual_mood + wave - 3.4 * self._bitterness(month)

    def volume(self, month: int) -> float:
        return self.usual_volume * (1 + 0.4 * self._bitterness(month))

    def _bitterness(self, month: int) -> float:
        """0 while all is well, up to 1 at the bottom of the bad spell."""
        since = month - self.sours_in if self.sours_in is not None else 0
        if since <= 0:
            return 0.0
        return min(since / 5, 1.0) if self.is_lost or since <= 6 else max(0.0, 1 - (since - 6) / 4)

    @property
    def leaves_in(self) -> int | None:
        """The month, counted from the start, from which there are no more tickets."""
        return self.sours_in + 9 if self.is_lost and self.sours_in is not None else None


class Cast:
    """Everybody, for one seed: 26 agents, 80 companies and fewer than 900 contacts, each list in the order of ids."""

    def __init__(self, seed: int, start: date) -> None:
        self._rng = Random(f"{seed}/cast")
        self._start = start
        self._fake = Faker("en_US", use_weighting=False)
        self._fake.seed_instance(seed)
        self._contact_id = 2000
        self.boards = BOARDS
        self.agents = [self._agent(n, first_name) for n, first_name in enumerate(self._distinct_first_names(26))]
        self.companies = self._signed(80)

    def _distinct_first_names(self, number: int) -> list[str]:
        """Comments call agents by their first name."""
        names: dict[str, None] = {}
        while len(names) < number:
            names[self._fake.first_name()] = None
        return list(names)

    def _agent(self, n: int, first_name: str) -> Agent:
        rng, last_name = self._rng, self._fake.last_name()
        boards = {"1"} | {board.id for board in rng.sample(BOARDS, 3)}
        if n < 16:
            boards.add(BOARDS[n % 8].id)  # two for each board, of whom at most one leaves
        return Agent(
            id=str(11 + 3 * n),
            name=f"{first_name} {last_name}",
            email=f"{first_name}.{last_name}@msp.example".lower(),
            skill={1: 1.3, 5: 0.9, 7: -1.5, 9: -1.1, 18: -0.9}.get(n, rng.gauss(0, 0.35)),
            board_ids=frozenset(boards),
            joined_on=self._start if n < 16 else self._start + timedelta(days=60 + 95 * (n - 16)),
            left_on=self._start + timedelta(days=rng.randint(240, 900)) if n in (3, 7, 12, 14, 17) else None,
            is_typed_by_hand=n == 4,
        )

    def _signed(self, number: int) -> list[Company]:
        rng = self._rng
        sizes = [min(rng.lognormvariate(0, 0.9), 5.0) for _ in range(number)]
        companies: dict[str, Company] = {}
        while len(companies) < number:
            market = rng.choice(list(MARKETS))
            name = f"{self._fake.last_name()} {rng.choice(MARKETS[market])}"
            if name not in companies:
                n = len(companies)
                share = sizes[n] / sum(sizes)
                twin = list(companies)[12] if n == 60 else name  # one customer is in the PSA twice
                companies[name] = self._company(n, twin, market, share)
        return list(companies.values())

    def _company(self, n: int, name: str, market: str, share: float) -> Company:
        rng = self._rng
        territory = rng.choices(TERRITORIES, (6, 3, 2, 1))[0]
        domain = re.sub(r"[^a-z]+", "", name.lower()) + ".example.com"
        months_before = 0 if n < 62 else (n - 61) * 3 // 2
        return Company(
            id=str(500 + 7 * n),
            name=name,
            market=market,
            market_id=str(10 + list(MARKETS).index(market)),
            territory=territory,
            territory_id=str(1 + TERRITORIES.index(territory)),
            usual_volume=share,
            answers=rng.triangular(0.16, 0.52, 0.33),
            usual_mood=rng.gauss(0.1, 0.4),
            wave=(rng.uniform(0.9, 1.7) if n % 3 == 0 else 0.2, rng.uniform(9, 20), rng.random()),
            sours_in=months_before + rng.randint(2, 66) if n % 3 == 1 else None,
            is_lost=n % 6 == 1,
            joined_on=self._start + timedelta(days=30 * months_before),
            contacts=tuple(self._contact(domain) for _ in range(max(3, round(700 * share)))),
            renamed=(date(2025, 3, 3), f"{name} Holdings") if n in (5, 40) else None,
        )

    def _contact(self, domain: str) -> Contact:
        rng = self._rng
        self._contact_id += rng.randint(1, 4)
        is_unusual = rng.random() < 0.02
        first, last = rng.choice(UNUSUAL_NAMES) if is_unusual else (self._fake.first_name(), self._fake.last_name())
        mailbox = f"user{self._contact_id}" if is_unusual else f"{first}.{last}".lower()
        return Contact(
            id=str(self._contact_id),
            first_name=first,
            last_name=last,
            email=f"{mailbox}@{domain}",
            title=rng.choice(JOBS),
            answers=rng.triangular(0.5, 1.6, 1.0),
        )
