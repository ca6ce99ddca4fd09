"""Privacy: what is published of people, judged by everything that the published file holds, and by its very bytes."""

import contextlib
import hashlib
import hmac
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import ENDPOINTS
from smileback_pipeline.replica.privacy import Privacy, Redactor, privacy_of
from smileback_pipeline.replica.publishing import publish
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.replication import replicate
from smileback_pipeline.sandbox import World, running_sandbox
from smileback_pipeline.settings import ConfigurationError, Settings, validated_settings
from smileback_pipeline_tests.dagster_home import create_dagster_home
from smileback_pipeline_tests.published_fixture import build_marts
from smileback_pipeline_tests.terminal import Terminal

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
KEY = b"a key of the tests"
GRETA = {"id": "9001", "name": "Greta Oyelaran-Vance", "email": "Greta.OV@vance.example"}
PLANTED = (
    "Call greta OYELARAN-VANCE (or Vance, or Greta!) at greta.ov@vance.example. O'Neill, Siobhan knows; so does K9x."
)
# Of records that are gone, or were never right: nobody of them may be in the file either.
GONE = ("Rejected Rosalind", "Deleted Dashiell")


def world() -> World:
    world = World(now=NOW, scale=0.05, start=datetime(2025, 12, 1).date())
    review = world.live("reviews")[-1]
    ticket = review["ticket"] | {"title": f"Onboarding of {GRETA['name']}", "agents": ["K9x", "Siobhan O'Neill"]}
    told = {"comment": PLANTED, "tags": ["VIP Greta Oyelaran-Vance", "testimonial"], "new_field": GRETA}
    planted = review | {"rating": -1, "contact": GRETA, "ticket": ticket} | told
    world.put("reviews", planted | {"id": 900001})
    world.put("reviews", planted | {"id": 900002, "rating": 7, "comment": GONE[0]})
    world.put("reviews", planted | {"id": 900003, "comment": GONE[1]})
    respondent = {"first_name": "Greta", "last_name": "Oyelaran-Vance", "email": GRETA["email"], "company": "Vance"}
    answer = {"id": 900001, "contact": respondent, "comment": PLANTED}
    world.put("nps-responses", world.live("nps-responses")[-1] | answer)
    return world


def people_of(world: World) -> set[str]:
    """Every name of two words or more, and every address, that SmileBack has of anybody."""
    found: set[str] = set()
    for contact in [*world.live("csat-contacts"), *world.live("csat-agents")]:
        found |= {contact["name"], contact.get("email") or ""}
    for review in world.live("reviews"):
        contact = review["contact"] or {}
        found |= {contact.get("name") or "", contact.get("email") or ""}
        found |= {*((review["ticket"] or {}).get("agents") or [])}
    for record in [*world.live("nps-responses"), *world.live("prj-responses")]:
        contact = record["contact"] or {}
        found |= {f"{contact.get('first_name', '')} {contact.get('last_name', '')}", contact.get("email") or ""}
    return {person for person in found if person and ("@" in person or len(person.split()) > 1)}


@contextlib.contextmanager
def opened(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect(file, read_only=True)) as connection:
        yield connection


def texts_of(file: Path) -> str:
    """Every row of every table and view, as text."""
    with opened(file) as connection:
        names = connection.execute(
            "select table_schema, table_name from information_schema.tables order by all"
        ).fetchall()
        rows = [
            row[0]
            for schema, name in names
            if name != "scores"  # its members are those of the daily marts; tested on their own
            for row in connection.execute(f'select to_json(t)::varchar from "{schema}"."{name}" as t').fetchall()
        ]
        rows += [row[0] for row in connection.execute("select distinct member from marts.scores").fetchall()]
    return "\n".join(rows)


def found_in(file: Path, people: set[str]) -> set[str]:
    """Those of the people who are in the file's rows or bytes, in any case."""
    texts, bytes_ = texts_of(file).casefold(), file.read_bytes().lower()
    return {person for person in people if person.casefold() in texts or person.lower().encode() in bytes_}


class Publications:
    """One replica, published in each way."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.world = world()
        self.people = people_of(self.world)
        with running_sandbox(self.world) as sandbox:
            terminal = Terminal(sandbox, directory)
            variables = {k: v for k, v in terminal.environment().items() if k.startswith("SMILEBACK_")}
            given = {name.removeprefix("SMILEBACK_").lower(): value for name, value in variables.items()}
            settings = validated_settings(**given)
            for _ in range(2):
                with SmileBackClient(settings) as client:
                    for endpoint in ENDPOINTS:
                        replicate(endpoint, client, Warehouse(settings.duckdb_path), settings)
                self.world.edit_review(900003, status="deleted")
                # What it said before is kept as well.
                self.world.edit_review(900001, status="done")
        self.warehouse = settings.duckdb_path
        build_marts(self.warehouse)

    def publish(self, privacy: Privacy) -> Path:
        target = self.directory / f"{privacy.mode}-{privacy.key.hex()}.duckdb"
        publish(Warehouse(self.warehouse), target, privacy)
        return target


@pytest.fixture(scope="module")
def publications(tmp_path_factory: pytest.TempPathFactory) -> Publications:
    return Publications(tmp_path_factory.mktemp("privacy"))


@pytest.fixture(scope="module")
def full(publications: Publications) -> Path:
    return publications.publish(Privacy())


@pytest.fixture(scope="module")
def pseudonymous(publications: Publications) -> Path:
    return publications.publish(Privacy("pseudonymous", KEY))


@pytest.fixture(scope="module")
def none(publications: Publications) -> Path:
    return publications.publish(Privacy("none"))


def test_everybody_is_in_the_file_that_keeps_everything(publications: Publications, full: Path) -> None:
    assert len(publications.people) > 200
    assert found_in(full, publications.people) == publications.people


def test_nobody_is_in_the_rows_or_the_bytes_of_a_pseudonymous_file(
    publications: Publications, pseudonymous: Path
) -> None:
    assert found_in(pseudonymous, publications.people | set(GONE)) == set()


def test_nobody_is_in_the_rows_or_the_bytes_of_a_file_without_people(publications: Publications, none: Path) -> None:
    assert found_in(none, publications.people | set(GONE)) == set()
    texts = texts_of(none)
    assert "person " not in texts
    with opened(none) as connection:
        columns = "comment, ticket_title, ticket_agents, tags, contact_id, contact_name, contact_email, extra"
        assert connection.execute(f"select distinct {columns} from replica.reviews").fetchall() == [(None,) * 8]
        assert connection.execute("select count(*) from replica.csat_contacts").fetchall() == [(0,)]
        assert connection.execute("select count(*) from marts.dim_agents").fetchall() == [(0,)]


def pseudonym(kind: str, value: str) -> str:
    """By the library, not by our SQL."""
    return f"{kind} {hmac.new(KEY, f'{kind}:{value}'.encode(), hashlib.sha256).hexdigest()[:16]}"


def test_a_person_has_one_pseudonym_everywhere(pseudonymous: Path) -> None:
    greta, address = pseudonym("person", GRETA["name"]), pseudonym("address", GRETA["email"].lower())
    siobhan, k9x = pseudonym("person", "Siobhan O'Neill"), pseudonym("person", "K9x")
    with opened(pseudonymous) as connection:
        [review] = connection.execute(
            "select contact_name, contact_email, ticket_agents, ticket_title, comment, tags, extra, contact_id "
            "from replica.reviews where id = 900001"
        ).fetchall()
        [response] = connection.execute(
            "select contact_first_name, contact_last_name, contact_email, comment, contact_id is null "
            "from marts.fct_nps_responses where response_id = 900001"
        ).fetchall()
    words = f"Call {greta} (or {greta}, or {greta}!) at {address}. {siobhan} knows; so does {k9x}."
    with opened(pseudonymous) as connection:
        assert connection.execute("select comment from replica.review_versions").fetchall() == [(words,)]
    assert review[:5] == (greta, address, [k9x, siobhan], f"Onboarding of {greta}", words)
    assert review[5:] == ([f"VIP {greta}", "testimonial"], None, GRETA["id"])
    assert response == (None, greta, address, words, True)


def test_pseudonyms_keep_every_score_and_only_change_what_people_are_called(full: Path, pseudonymous: Path) -> None:
    shown = "metric, grain, period_start, dimension, count_responses, round(value, 9)"
    with opened(full) as before, opened(pseudonymous) as after:
        for dimension in ("all", "board", "company", "category", "agent", "contact"):
            member = "member" if dimension not in ("agent", "contact") else "'somebody'"
            query = f"select {shown}, {member} from marts.scores where dimension = '{dimension}' order by all"
            expected = before.execute(query).fetchall()
            assert after.execute(query).fetchall() == expected, dimension
            assert expected
        listed, known = (
            dict(connection.execute("select contact_id, member from marts.dim_contacts").fetchall())
            for connection in (before, after)
        )
        assert listed.keys() == known.keys()
        scored = "select distinct member from marts.scores where dimension = 'contact'"
        assert {row[0] for row in after.execute(scored).fetchall()} <= set(known.values())


def test_without_people_the_scores_of_the_others_stay(full: Path, none: Path) -> None:
    query = """
        select metric, grain, period_start, dimension, member, count_responses, round(value, 9), is_small_sample
        from marts.scores where dimension not in ('agent', 'contact') order by all
    """
    with opened(full) as before, opened(none) as after:
        assert after.execute(query).fetchall() == before.execute(query).fetchall()
        query = "select count(*) from marts.scores where dimension in ('agent', 'contact')"
        assert after.execute(query).fetchall() == [(0,)]


def test_every_table_keeps_its_rows_columns_comments_and_format(full: Path, pseudonymous: Path) -> None:
    columns = "select schema_name, table_name, column_name, data_type, comment from duckdb_columns() where not internal"
    tables = "select schema_name, table_name, comment from duckdb_tables()"
    views = "select schema_name, view_name, comment from duckdb_views() where not internal"
    with opened(full) as before, opened(pseudonymous) as after:
        for query in (f"{columns} order by all", f"{tables} union all {views} order by all"):
            assert after.execute(query).fetchall() == before.execute(query).fetchall()
        for endpoint in ENDPOINTS:
            count = f"select count(*), count(distinct id) from replica.{endpoint.name}"
            assert after.execute(count).fetchall() == before.execute(count).fetchall()
        version = "select tags['storage_version'] from duckdb_databases() where not internal"
        assert after.execute(version).fetchall() == before.execute(version).fetchall()


def test_another_key_makes_other_pseudonyms(publications: Publications, pseudonymous: Path) -> None:
    other = publications.publish(Privacy("pseudonymous", b"another key"))
    query = "select distinct contact_name from replica.reviews where contact_name is not null"
    with opened(pseudonymous) as one, opened(other) as two:
        assert not {*one.execute(query).fetchall()} & {*two.execute(query).fetchall()}


@pytest.mark.parametrize(
    ("text", "about", "expected"),
    [
        ("Thanks jane DOE!", [], "Thanks <Jane Doe>!"),
        ("doe, jane called", [], "<Jane Doe> called"),
        ("Jane helped; Doe did too.", [], "Jane helped; Doe did too."),
        ("jane helped; doe's team too", ["Jane Doe"], "<Jane Doe> helped; <Jane Doe>'s team too"),
        ("Will it work? Max will. max volume", [], "Will it work? <Max> will. max volume"),
        ("MARIE CLAIRE d'arcy-zoe\u0301", [], "<Marie-Claire D'Arcy Zoé>"),
        ("mail nobody.known@x.example, please", [], "mail <nobody.known@x.example>, please"),
        ("a@@,@nobody;<nobody.known@x.example@_>", [], "a@@,@nobody;<<nobody.known@x.example>@_>"),
        (f"{'x' * 500_000} nobody.known@x.example", [], f"{'x' * 500_000} <nobody.known@x.example>"),
        ("@_" * 300_000, [], "@_" * 300_000),
        ("😀 no one\n\there", [], "😀 no one\n\there"),
        ("", ["Jane Doe"], ""),
    ],
)
def test_people_are_found_in_what_customers_write(text: str, about: list[str | None], expected: str) -> None:
    names = ["Jane Doe", "Max", "Marie-Claire D'Arcy Zoé"]
    redacted = Redactor(Privacy("pseudonymous", KEY), names).redacted(text, about)
    for name in names:
        redacted = redacted.replace(pseudonym("person", name), f"<{name}>")
    assert redacted.replace(pseudonym("address", "nobody.known@x.example"), "<nobody.known@x.example>") == expected


def settings_with(directory: Path, **given: Any) -> Settings:
    return validated_settings(token_path=directory / "tokens.json", privacy="pseudonymous", **given)


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    made = privacy_of(settings_with(tmp_path))
    assert privacy_of(settings_with(tmp_path)) == made
    file = tmp_path / "pseudonyms.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() not in repr(made) + made.fingerprint
    assert privacy_of(settings_with(tmp_path, privacy_key="one that is set by hand")).fingerprint != made.fingerprint


def test_a_key_that_could_be_guessed_is_refused_without_saying_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SMILEBACK_PRIVACY_KEY") as refused:
        settings_with(tmp_path, privacy_key="too short")
    assert "too short" not in str(refused.value).replace("at least 16", "")


def test_another_setting_is_published_by_the_next_sync_even_if_nothing_is_new(tmp_path: Path) -> None:
    create_dagster_home(tmp_path)
    small = World.empty(now=NOW)
    stamp = "2026-03-01T12:00:00Z"
    review = {"id": 1, "rating": -1, "rated_on": stamp, "last_modified": stamp, "comment": PLANTED, "contact": GRETA}
    small.put("reviews", review | {"ticket": {"agents": ["Siobhan O'Neill"]}})
    with running_sandbox(small) as sandbox:
        terminal = Terminal(sandbox, tmp_path, {"DAGSTER_HOME": str(tmp_path / "dagster")})
        published, scorecard = tmp_path / "analytics.duckdb", tmp_path / "scorecard.html"
        people = {GRETA["name"], GRETA["email"], "Siobhan O'Neill"}
        assert terminal.run("sync").returncode == 0
        assert found_in(published, people) == people
        assert "OYELARAN-VANCE" in scorecard.read_text()
        result = terminal.run("sync", SMILEBACK_PRIVACY="none")
        assert result.returncode == 0, result.stderr
        assert found_in(published, people) == set()
        assert "Vance" not in scorecard.read_text()
        inode = published.stat().st_ino
        assert terminal.run("sync", SMILEBACK_PRIVACY="none").returncode == 0
        assert published.stat().st_ino == inode


def test_long_texts_are_published_with_less_memory_than_they_take(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    with contextlib.closing(warehouse), warehouse.connect() as connection:
        warehouse.make_room(500_000_000)
        connection.execute(
            """
            insert into replica.reviews (id, comment, last_modified, synced_at)
            select n, repeat(md5(n::varchar), 60), now(), now() from range(60_000) as numbers (n)
            """
        )
    publish(warehouse, tmp_path / "analytics.duckdb", Privacy("pseudonymous", b"key"))
    with opened(tmp_path / "analytics.duckdb") as connection:
        query = "select count(*), count(distinct comment), min(length(comment)) from replica.reviews"
        assert connection.execute(query).fetchall() == [(60_000, 60_000, 60 * 32)]
