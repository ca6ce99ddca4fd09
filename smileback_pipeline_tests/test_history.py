"""What stays of what reviews said before: replicated over HTTP from a SmileBack in which things change."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.replica.state import UNPUBLISHED, load_note, save_note
from smileback_pipeline.replica.warehouse import Warehouse
from smileback_pipeline.replication import replicate
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Account:
    sandbox: Sandbox
    warehouse: Warehouse
    settings: Settings

    @property
    def world(self) -> World:
        return self.sandbox.world

    def sync(self, *, full: bool = False, keep_history: bool = True) -> None:
        settings = self.settings.model_copy(update={"keep_history": keep_history})
        with SmileBackClient(settings) as client:
            replicate(REVIEWS, client, self.warehouse, settings, full=full)

    def edit(self, review_id: int, *, minutes: int, **changes: Any) -> None:
        self.world.edit_review(review_id, at=NOON + timedelta(minutes=minutes), **changes)

    def versions(self) -> list[tuple[Any, ...]]:
        with self.warehouse.connect() as connection:
            return connection.execute(
                "select id, rating, status, comment from replica.review_versions order by replaced_at, id"
            ).fetchall()


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    world = World.empty(now=NOON)
    for review_id in (1, 2, 3):
        world.put(
            "reviews",
            {
                "id": review_id,
                "rating": -1,
                "status": "open",
                "comment": "Slow.",
                "rated_on": NOON.isoformat(),
                "viewed_on": None,
                "last_modified": (NOON + timedelta(seconds=review_id)).isoformat(),
            },
        )
    with running_sandbox(world) as sandbox:
        given = {name.removeprefix("SMILEBACK_").lower(): value for name, value in sandbox.environment().items()}
        paths = {"duckdb_path": tmp_path / "warehouse.duckdb", "token_path": tmp_path / "tokens.json"}
        settings = Settings.model_validate({**given, **paths, "requests_per_minute": 0, "timezone": "UTC"})
        account = Account(sandbox, Warehouse(settings.duckdb_path), settings)
        account.sync()
        yield account


def test_a_version_is_kept_when_its_rating_status_or_comment_is_replaced(account: Account) -> None:
    assert account.versions() == []
    account.edit(1, minutes=1, status="done")
    account.sync()
    account.edit(1, minutes=2, rating=1, rated_on=(NOON + timedelta(minutes=2)).isoformat())
    account.edit(2, minutes=2, comment=None)
    account.sync()
    assert account.versions() == [(1, -1, "open", "Slow."), (1, -1, "done", "Slow."), (2, -1, "open", "Slow.")]


def test_what_did_not_change_is_not_kept_twice(account: Account) -> None:
    account.edit(1, minutes=1, viewed_on=NOON.isoformat())
    account.sync()
    account.sync(full=True)
    assert account.versions() == []


def test_a_deleted_reviews_history_goes_with_it(account: Account) -> None:
    for review_id in (1, 2, 3):
        account.edit(review_id, minutes=1, rating=0)
    account.sync()
    assert [version[0] for version in account.versions()] == [1, 2, 3]
    account.edit(1, minutes=2, status="deleted")
    account.sync()
    assert [version[0] for version in account.versions()] == [2, 3]
    account.world.remove("reviews", 2)  # without a trace: only a full sync can tell
    account.sync(full=True)
    assert [version[0] for version in account.versions()] == [3]


def test_a_version_outlives_one_that_cannot_be_right_but_not_the_review(account: Account) -> None:
    account.edit(1, minutes=1, rating=7)
    account.sync()
    assert account.versions() == [(1, -1, "open", "Slow.")]
    account.edit(1, minutes=2, rating=7, status="deleted")
    account.sync()
    assert account.versions() == []


def test_without_history_nothing_is_kept_and_what_was_kept_goes(account: Account) -> None:
    account.edit(1, minutes=1, rating=0)
    account.sync()
    assert len(account.versions()) == 1
    with account.warehouse.connect() as connection:
        save_note(connection, UNPUBLISHED, None)
    account.sync(keep_history=False)
    assert account.versions() == []
    with account.warehouse.connect() as connection:
        assert load_note(connection, UNPUBLISHED), "the published file has to forget it as well"
    account.edit(2, minutes=2, rating=0)
    account.sync(keep_history=False)
    assert account.versions() == []


def test_a_file_from_before_there_was_history_gets_one(account: Account) -> None:
    with contextlib.closing(duckdb.connect(account.settings.duckdb_path)) as connection:
        connection.execute("drop table replica.review_versions")
        connection.execute("update replica.notes set value = '1' where name = 'schema_version'")
    account.edit(1, minutes=1, rating=0)
    account.sync()
    assert account.versions() == [(1, -1, "open", "Slow.")]
