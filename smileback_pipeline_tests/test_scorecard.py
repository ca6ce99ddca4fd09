"""The scorecard: what it says is computed by hand, and how it shows is looked at in a real browser, without a network.

The tests of the page tell one story in order, since each build of the marts takes seconds.
"""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.scorecard.facts import Period
from smileback_pipeline.scorecard.page import render_scorecard
from smileback_pipeline_tests.published_fixture import published
from smileback_pipeline_tests.replica_fixture import Replica, write_replica

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PHONE, DESKTOP = 360, 1280
NOTHING = "\N{EN DASH}"
HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"> {{ 7 * 7 }} & so"


def answers(**ratings: int) -> list[dict[str, object]]:
    return [{"question": name, "rating": rating, "seq_number": 1} for name, rating in ratings.items()]


def review(day: str, rating: int | None, **more: Any) -> dict[str, Any]:
    stamp = f"{day}T12:00:00Z"
    stamps = {"ticket_closed_on": stamp, "rated_on": stamp if rating is not None else None}
    acme = {"company_id": "c1", "company_name": "Acme <b>& Sons</b>", "ticket_agents": ["Zoë <i>K</i>"]}
    return {"rating": rating, **stamps, **acme, **more}


ONE_COMPANY: Replica = {
    "reviews": {
        1: review("2025-11-10", 1),
        2: review("2025-12-10", -1, comment="Slow.", permalink="https://app.smileback.io/reviews/2/", status="open"),
        3: review("2026-01-10", 1),
        4: review("2026-02-10", 1),
        5: review("2026-02-11", -1, comment=HOSTILE, permalink="javascript:document.title='owned'", status="done"),
        6: review("2026-02-12", 1, comment="positive, so not shown"),
        7: review("2026-02-13", None),
        8: review("2026-02-14", -1, comment=" \u200b\n "),
        9: review("2099-01-01", -1, comment="from the future"),
    },
    "nps_responses": {
        1: {"score": 10, "created_at": "2026-02-01T12:00:00Z", "contact_company": "Acme <b>& Sons</b>"},
        2: {"score": 8, "created_at": "2026-02-01T12:00:00Z", "contact_company": "Acme <b>& Sons</b>"},
        3: {"score": 3, "created_at": "2026-02-20T12:00:00Z", "comment": "لا أوصي به", "contact_company": "Bolt"},
        4: {"score": 0, "created_at": "2024-02-01T12:00:00Z"},
    },
    "prj_responses": {
        "r1": {"date": "2026-01-05T12:00:00Z", "ratings": answers(**{"Budget $x_{$ <b>": 4, "Time": 2})},
        "r2": {"date": "2026-01-06T12:00:00Z", "ratings": answers(**{"Budget $x_{$ <b>": 5})},
    },
}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scorecard") / "warehouse.duckdb"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("there is no chromium on this machine to look at the page with")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


class Look:
    """A look at a page file in the browser: offline, and listening to what the browser complains about."""

    def __init__(self, browser: Browser, path: Path, *, width: int = DESKTOP, scheme: Any = "light") -> None:
        self._context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self._context.set_default_timeout(120_000)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> "Look":
        return self

    def __exit__(self, *failure: object) -> None:
        self._context.close()

    def texts(self, selector: str) -> list[str]:
        return [" ".join(text.split()) for text in self.page.locator(selector).all_inner_texts()]

    def style(self, selector: str, name: str) -> str:
        """A property of the first such element, as the browser computed it."""
        return self.page.locator(selector).first.evaluate(f"element => getComputedStyle(element).{name}")

    def overflow(self) -> int:
        """By how many pixels the page is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def assert_quiet(self) -> None:
        """Nothing was fetched but the page itself, nothing ran, nothing was against the page's policy."""
        assert self.complaints == []
        assert len(self.requests) == 1
        assert self.page.title() != "owned"


def rendered(file: Path) -> Path:
    page = file.with_name("scorecard.html")
    page.write_text(render_scorecard(file, NOW), encoding="utf-8")
    return page


def test_an_account_without_answers_has_a_page_that_says_so(warehouse: Path, browser: Browser) -> None:
    write_replica(warehouse, {}, pending_days=[])
    with Look(browser, rendered(published(warehouse)), width=PHONE) as look:
        assert "No answers yet" in look.texts("h2")
        assert look.texts("table, svg, .card") == []
        assert look.overflow() <= 0
        look.assert_quiet()


@pytest.fixture(scope="module")
def one_company(warehouse: Path) -> Path:
    write_replica(warehouse, ONE_COMPANY, pending_days=[])
    return rendered(published(warehouse))


def test_scores_are_those_of_the_quarter_with_their_change_and_counts(one_company: Path, browser: Browser) -> None:
    with Look(browser, one_company) as look:
        assert look.texts("h1") == ["Customer feedback, 2026 Q1 so far"]
        csat, response, nps, project = look.texts(".cards .card")
        # 3 positive, 2 negative; the quarter before 1 and 1.
        assert csat.startswith("Net CSAT +20.0 ▲ +20.0 against 2025 Q4")
        assert "5 rated reviews few" in csat
        # 5 of 6, after 2 of 2.
        assert response.startswith("Response rate 83.3% ▼ -16.7 points against 2025 Q4")
        # A promoter, a passive and a detractor; nobody answered in the quarter before.
        assert nps.startswith(f"NPS +0.0 {NOTHING} against 2025 Q4: no answers then")
        # (4.5 + 2) / 2
        assert project.startswith("Project score 3.25")
        assert all(" 95 % interval " in card and " to " in card for card in (csat, response, nps, project))
        look.assert_quiet()


def test_members_have_their_own_scores_and_only_one_row(one_company: Path, browser: Browser) -> None:
    with Look(browser, one_company) as look:
        [agent] = look.texts("section[aria-labelledby=agents] tbody tr")
        assert agent.startswith("Zoë <i>K</i> 5 +20.0 few ")
        assert agent.endswith("▲ +20.0")
        acme, bolt = look.texts("section[aria-labelledby=companies] tbody tr")
        assert acme.startswith("Acme <b>& Sons</b> 5 +20.0 few ")
        assert " 2 +50.0 few " in acme  # a promoter and a passive
        assert bolt.startswith(f"Bolt 0 {NOTHING} {NOTHING} 1 -100.0 few ")
        assert look.texts("text=more compan") == []


def test_comments_are_the_latest_negative_ones_and_only_data(one_company: Path, browser: Browser) -> None:
    with Look(browser, one_company) as look:
        nps, hostile, slow = look.texts("ul.comments li")
        assert nps == "20 February 2026 · NPS 3 · Bolt لا أوصي به"
        assert HOSTILE in hostile
        assert hostile.startswith("11 February 2026 · negative rating · Acme <b>& Sons</b> · Zoë <i>K</i> · done")
        assert slow.startswith("10 December 2025 · negative rating")
        hrefs = look.page.locator("ul.comments a").evaluate_all("links => links.map(link => link.href)")
        assert hrefs == ["https://app.smileback.io/reviews/2/"]
        assert look.page.locator("script, img, b, i, iframe, style + style").count() == 0
        look.assert_quiet()


def test_the_browser_itself_is_told_to_run_and_load_nothing(one_company: Path, browser: Browser) -> None:
    hacked = one_company.with_name("hacked.html")
    injected = HOSTILE + "<link rel=stylesheet href=http://127.0.0.1:9/><style>h1 { display: none }</style>"
    hacked.write_text(one_company.read_text(encoding="utf-8").replace("<h1>", f"{injected}<h1>"), encoding="utf-8")
    with Look(browser, hacked) as look:
        assert look.page.title() != "owned"
        assert look.page.locator("h1").is_visible()
        assert sum("Content Security Policy" in complaint for complaint in look.complaints) >= 4


def test_pictures_say_in_words_what_they_show(one_company: Path, browser: Browser) -> None:
    with Look(browser, one_company) as look:
        labels = look.page.locator("svg").evaluate_all("all => all.map(svg => svg.getAttribute('aria-label'))")
        csat, _response, nps, project, distribution, categories = labels
        assert "first +100.0 in November 2025" in csat
        assert "last +0.0 in February 2026" in csat  # two positive, two negative
        # By quarter, since what comes late to a campaign would be months of one answer.
        assert "by quarter with its 95 % interval: first -100.0 in 2024 Q1" in nps
        assert "last +0.0 in 2026 Q1" in nps
        assert "3.25 in January 2026" in project
        assert "3 answers" in distribution  # the fourth is older than a year
        assert "1 detractors (0 to 6), 1 passives (7 and 8), 1 promoters (9 and 10)" in distribution
        assert categories == "Bars on a scale from 1 to 5: Budget $x_{$ <b> 4.50; Time 2.00."
        assert any("Budget $x_{$ <b>" in text for text in look.page.locator("svg text").all_text_contents())


def test_a_screen_reader_finds_its_way(one_company: Path, browser: Browser) -> None:
    with Look(browser, one_company) as look:
        page = look.page
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.locator("header, main, footer").count() == 3
        levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(heading => Number(heading.tagName[1]))")
        assert levels[0] == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        for table in page.locator("table").all():
            assert table.locator("caption").count() == 1
            assert table.locator("thead th:not([scope])").count() == 0
            assert table.locator("tbody tr").count() == table.locator("tbody th[scope=row]").count()
        assert page.locator("svg:not([role=img]), svg:not([aria-label])").count() == 0
        ids = page.locator("[id]").evaluate_all("all => all.map(element => element.id)")
        assert len(ids) == len(set(ids))
        named = page.locator("[aria-labelledby]").evaluate_all("all => all.map(e => e.getAttribute('aria-labelledby'))")
        assert set(named) <= set(ids)
        page.keyboard.press("Tab")
        assert look.texts(":focus") == ["Skip to the scores"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_on_every_screen(one_company: Path, browser: Browser, scheme: str) -> None:
    with Look(browser, one_company, scheme=scheme) as look:
        grounds = [look.style(selector, "backgroundColor") for selector in ("body", ".card")]
        for selector in (".value", ".muted", ".better", ".worse", "a[href^=http]", "thead th", "blockquote"):
            assert min(contrast(look.style(selector, "color"), ground) for ground in grounds) >= 4.5, selector
        assert contrast(look.style("svg text", "fill"), grounds[1]) >= 4.5
        assert (luminance(grounds[0]) < 0.1) == (scheme == "dark")


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2.2 defines it: 1 ... 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_on_paper_it_is_dark_on_white_even_if_the_screen_is_dark(one_company: Path, browser: Browser) -> None:
    with Look(browser, one_company, scheme="dark") as look:
        look.page.emulate_media(media="print", color_scheme="dark")
        assert look.style("body", "backgroundColor") == "rgb(255, 255, 255)"
        assert look.style("body", "color") == "rgb(0, 0, 0)"
        assert look.page.pdf(format="A4").startswith(b"%PDF")


def test_on_a_phone_the_agents_scores_are_seen_without_scrolling(one_company: Path, browser: Browser) -> None:
    with Look(browser, one_company, width=PHONE) as look:
        agents = look.page.locator("section[aria-labelledby=agents] .wide")
        assert agents.evaluate("wide => wide.scrollWidth - wide.clientWidth") <= 0
        for caption in look.page.locator("caption:visible").all():
            box = caption.bounding_box()
            assert box and box["x"] + box["width"] <= PHONE


def test_a_machine_of_many_processors_has_no_more_threads_share_the_memory(one_company: Path) -> None:
    file = one_company.with_name("analytics.duckdb")
    # Connections of one process to one file have one DuckDB.
    with contextlib.closing(duckdb.connect(file, read_only=True)) as connection:
        connection.execute("set threads = 32")
        render_scorecard(file, NOW)
        assert connection.execute("select current_setting('threads')").fetchone() == (2,)


def test_ten_thousand_companies_fit_on_a_phone(warehouse: Path, browser: Browser) -> None:
    write_replica(warehouse, {}, pending_days=[])
    with Warehouse(warehouse).connect() as connection:
        # Company 17 has three answers, 42 two, all others one.
        connection.execute(
            """
            with tickets as (
                select i, case when i < 10000 then i when i = 10002 then 42 else 17 end as c from range(10003) as r(i)
            )
            insert into replica.reviews (id, rating, rated_on, company_id, company_name, ticket_agents)
            select i, 1, '2026-02-03T12:00:00Z', c, 'Company ' || repeat('x', c % 90) || c, ['Agent ' || c]
            from tickets
            """
        )
    with Look(browser, rendered(published(warehouse)), width=PHONE) as look:
        names = look.texts("section[aria-labelledby=companies] tbody th")
        assert names[0] == f"Company {'x' * 17}17"
        assert names[1] == f"Company {'x' * 42}42"
        assert len(names) == 25
        assert "and 9,975 more companies" in look.texts("p.muted")
        assert "and 9,975 more agents" in look.texts("p.muted")
        assert look.overflow() <= 0
        look.assert_quiet()
    assert warehouse.with_name("scorecard.html").stat().st_size < 300_000


@pytest.mark.parametrize(
    ("start", "before", "name"),
    [(date(2026, 1, 1), date(2025, 10, 1), "2026 Q1"), (date(2026, 10, 1), date(2026, 7, 1), "2026 Q4")],
)
def test_a_quarter_knows_its_name_and_the_one_before(start: date, before: date, name: str) -> None:
    assert str(Period(start)) == name
    assert Period(start).before == Period(before)


def test_a_quarter_is_over_when_the_next_has_begun() -> None:
    quarter = Period(date(2025, 10, 1))
    assert not quarter.is_over(date(2025, 12, 31))
    assert quarter.is_over(date(2026, 1, 1))
