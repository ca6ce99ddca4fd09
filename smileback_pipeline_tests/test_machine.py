"""What the machine may do to a sync: kill it at any moment, fill the disk, hold its files open.

Without Dagster and dbt; `test_interruptions.py` does the same to whole syncs. `KILLS=100` makes the kills a hundred.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from benchmarks.server import Reviews
from smileback_pipeline.api.pages import parse_page
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.replica.landing import Changes, begin_batch, find_changes, stage, take, upsert
from smileback_pipeline.replica.publishing import PublishingError, publish
from smileback_pipeline.replica.warehouse import Warehouse, WarehouseError, transaction
from smileback_pipeline.sandbox import Sandbox, World, running_sandbox
from smileback_pipeline.sandbox.faults import call
from smileback_pipeline_tests.mirror import (
    Customer,
    assert_nothing_is_missing_below_the_watermark,
    assert_replica_equals,
    query,
)
from smileback_pipeline_tests.test_replication import MINUTE, NOW, put_response, put_review, with_reviews

KILLS = int(os.environ.get("KILLS", "6"))


def lively_world() -> World:
    world = with_reviews(450)
    for number in range(300):
        put_response(world, number, NOW - number * MINUTE)
        world.put("csat-contacts", {"id": str(number), "name": f"Contact {number}"})
    return world


def change(world: World, rng: random.Random) -> None:
    """What happens at a customer's between two runs."""
    with world.lock:
        world.advance(to=world.now + timedelta(seconds=10))
        for _ in range(5):
            world.edit_review(rng.randint(1, 450), comment=f"edited at {world.now}", status="open")
        world.edit_review(rng.randint(1, 450), status="deleted")
        put_review(world, rng.randint(1000, 100_000), world.now)
        put_response(world, rng.randint(1000, 100_000), world.now)
        contacts = world.tables["csat-contacts"].by_key
        world.remove("csat-contacts", rng.choice(sorted(contacts)))


@pytest.mark.timeout(60 + 20 * KILLS)
def test_a_sync_killed_at_any_moment_leaves_files_that_a_later_one_goes_on_with(tmp_path: Path) -> None:
    """Each run is killed at the so-and-so-many-th request, or a moment after it, or while it publishes."""
    rng = random.Random(os.environ.get("KILLS_SEED", "1"))
    world = lively_world()
    published = tmp_path / "analytics.duckdb"
    with running_sandbox(world, max_limit=20, reviews_order="last_modified") as sandbox:
        customer = Customer(sandbox, tmp_path)
        before: list[tuple[Any, ...]] = []
        said = []
        for number in range(KILLS):
            # Fewer requests as time goes by: what is landed is not read again.
            at_request = rng.randint(0, 75 if number % 4 == 0 else 40)
            said.append(_run_and_kill(sandbox, tmp_path, at_request, after_seconds=rng.choice([0, 0.01, 0.05, 0.3])))
            if customer.file.exists():
                assert_nothing_is_missing_below_the_watermark(world, customer.file)
            if published.exists():
                rows = query(published, "select id, comment from replica.reviews order by id")
                assert rows == before or "replicated" in said[-1]
                before = rows
            change(world, rng)
            if number % 8 == 7:
                customer.sync()
                assert_replica_equals(world, customer.file)
        assert _run(sandbox, tmp_path).wait() == 0
        assert_replica_equals(world, customer.file)
        assert query(published, "select count(*) from replica.reviews") == [(len(world.live("reviews")),)]
    assert not list(tmp_path.glob(".analytics*")), "a killed publication left something behind"


def _run(sandbox: Sandbox, directory: Path) -> subprocess.Popen[str]:
    # A commit every few pages, so that kills meet commits.
    return subprocess.Popen(
        [sys.executable, "-m", "smileback_pipeline_tests.victim", str(directory), "3"],
        env={**os.environ, **sandbox.environment(), "XDG_STATE_HOME": str(directory)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _run_and_kill(sandbox: Sandbox, directory: Path, at_request: int, after_seconds: float) -> str:
    process = _run(sandbox, directory)
    timer = threading.Timer(after_seconds, process.kill)
    sandbox.faults.clear()
    sandbox.faults.add("*", call(lambda sandbox: timer.start()), after=at_request)
    assert process.stdout
    with process.stdout:
        said = ""
        for line in process.stdout:
            said += line
            if line == "replicated\n" and not timer.is_alive():
                timer = threading.Timer(after_seconds / 3, process.kill)
                timer.start()
    process.wait()
    timer.cancel()
    sandbox.faults.clear()
    return said


def test_a_file_that_was_being_created_when_the_process_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    """DuckDB makes the file first and fills it then; what is not yet a database has no rows to lose."""
    with running_sandbox(with_reviews(30)) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.file.touch()
        customer.sync([REVIEWS])
        assert_replica_equals(sandbox.world, customer.file)


def test_a_thing_that_is_no_database_is_left_alone_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_text("Dear diary")
    with pytest.raises(WarehouseError, match=r"cannot be opened .* move it away and sync"), Warehouse(path).connect():
        pass
    assert path.read_text() == "Dear diary"


# Somebody else has the file open

_HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1], read_only=len(sys.argv) > 2)
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Another program has the file open."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin and holder.stdout
    holder.stdout.readline()
    try:
        yield holder
    finally:
        holder.stdin.close()
        holder.wait()


@pytest.mark.parametrize("options", [[], ["read-only"]], ids=["to write", "to read"])
def test_a_file_that_somebody_has_open_is_waited_for_with_a_message_and_then_named(
    tmp_path: Path, options: list[str]
) -> None:
    path = tmp_path / "warehouse.duckdb"
    with Warehouse(path).connect():
        pass
    told: list[str] = []
    impatient = Warehouse(path, patience_seconds=1, on_wait=told.append)
    with held(path, *options) as holder:
        words = rf"stayed locked for 1 s .*PID {holder.pid}.*Close it there"
        with pytest.raises(WarehouseError, match=words), impatient.connect():
            pass
        assert f"PID {holder.pid}" in told[0]
        told.clear()

        def let_go(message: str) -> None:
            told.append(message)
            if len(told) == 1:
                holder.stdin.close()

        with Warehouse(path, patience_seconds=60, on_wait=let_go).connect() as connection:
            connection.execute("from replica.reviews")
    assert told


# The disk is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"A small file system can only be mounted by root on Linux: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, *, leaving: int) -> Path:
    """Take all the room of a file system but so many bytes."""
    stuffing = place / "stuffing"
    room = os.statvfs(place)
    stuffing.write_bytes(b"\0" * max(0, room.f_bavail * room.f_frsize - leaving))
    return stuffing


@pytest.mark.parametrize("leaving", [0, 100_000, 400_000, 1_500_000])
def test_a_disk_that_is_full_ends_the_sync_with_a_sentence_and_the_next_one_goes_on(
    small_disk: Path, leaving: int
) -> None:
    world = with_reviews(300)
    with running_sandbox(world, max_limit=100) as sandbox:
        customer = Customer(sandbox, small_disk)
        customer.sync()
        for number in range(1, 5000):
            put_review(world, number, NOW + number * timedelta(milliseconds=1), comment=f"{random.random()}" * 40)
        stuffing = fill(small_disk, leaving=leaving)
        with pytest.raises(WarehouseError, match=r"(?i)warehouse\.duckdb .*(no space|disk|make room)"):
            customer.sync([REVIEWS])
        assert_nothing_is_missing_below_the_watermark(world, customer.file)
        assert customer.query("select count(*), count(distinct id) from replica.reviews")[0][0] >= 300
        stuffing.unlink()
        for number in range(100, 5000):
            world.remove("reviews", number)
        customer.sync([REVIEWS], full=True)
        assert_replica_equals(world, customer.file)


@pytest.mark.parametrize("leaving", [0, 300_000])
def test_a_disk_that_is_full_keeps_the_file_that_was_published_before(
    small_disk: Path, tmp_path: Path, leaving: int
) -> None:
    target = small_disk / "analytics.duckdb"
    with running_sandbox(with_reviews(300)) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.sync([REVIEWS])
        publish(Warehouse(customer.file), target)
        for number in range(1, 4000):
            put_review(sandbox.world, number, NOW + number * timedelta(milliseconds=1), comment=f"{random.random()}")
        customer.sync([REVIEWS])
        stuffing = fill(small_disk, leaving=leaving)
        with pytest.raises(PublishingError, match=r"(?i)no space .*published before still stands; make room"):
            publish(Warehouse(customer.file), target)
        assert query(target, "select count(*) from replica.reviews") == [(300,)]
        assert sorted(path.name for path in small_disk.iterdir()) == ["analytics.duckdb", "stuffing"]
        stuffing.unlink()
        publish(Warehouse(customer.file), target)
    assert query(target, "select count(*) from replica.reviews") == [(3999,)]


# The published file


def test_an_analysts_log_beside_the_published_file_does_not_get_into_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "analytics.duckdb"
    with running_sandbox(with_reviews(300)) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.sync([REVIEWS])
        publish(Warehouse(customer.file), target)
        edit = (
            "import duckdb, os, sys; analyst = duckdb.connect(sys.argv[1]); "
            "analyst.execute(\"update replica.reviews set comment = 'mine'\"); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", edit, str(target)], check=True)
        assert target.with_name("analytics.duckdb.wal").stat().st_size > 0
        publish(Warehouse(customer.file), target)
    assert query(target, "select count(*) from replica.reviews where comment = 'mine'") == [(0,)]
    assert query(target, "select count(*) from replica.reviews") == [(300,)]


# A file of another version of ours


def test_a_file_of_an_older_version_is_extended_and_read_again(tmp_path: Path) -> None:
    world = with_reviews(300)
    with running_sandbox(world) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.sync([REVIEWS])
        with contextlib.closing(duckdb.connect(customer.file)) as connection:
            connection.execute("alter table replica.reviews drop column permalink")
            connection.execute("drop table replica.rejected_records")
            connection.execute("update replica.notes set value = '0' where name = 'schema_version'")
        customer.sync([REVIEWS])
        assert_replica_equals(world, customer.file)
        customer.sync()
        assert_replica_equals(world, customer.file)


def test_a_file_of_a_newer_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with Warehouse(path).connect() as connection:
        connection.execute("update replica.notes set value = '99' where name = 'schema_version'")
    with pytest.raises(WarehouseError, match=r"newer version .* upgrade smileback-pipeline"), Warehouse(path).connect():
        pass


# The memory is less than what arrives


def test_what_smileback_adds_to_all_records_lands_from_full_pages(tmp_path: Path) -> None:
    world = with_reviews(0)
    for number in range(1, 13_001):
        put_review(world, number, NOW + number * timedelta(milliseconds=1), sentiment={"label": "calm", "sure": 0.5})
    with running_sandbox(world) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.sync([REVIEWS])
        assert customer.query("select extra, count(*) from replica.reviews group by all") == [
            ('{"sentiment":{"label":"calm","sure":0.5}}', 13_000)
        ]


def test_pages_of_long_texts_land(tmp_path: Path) -> None:
    world = with_reviews(0)
    for number in range(1, 3_001):
        put_review(world, number, NOW + number * timedelta(milliseconds=1), comment=f"{number:05} at length, " * 1_500)
    with running_sandbox(world) as sandbox:
        customer = Customer(sandbox, tmp_path)
        customer.sync([REVIEWS])
        [found] = customer.query("select count(*), min(length(comment)), max(length(comment)) from replica.reviews")
        assert found == (3_000, 25_500, 25_500)


def test_rows_are_compared_with_what_is_there_while_more_arrive_in_less_memory_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a large list is read again, and takes long to look up: two batches are full, and a third arrives."""
    monkeypatch.setattr("smileback_pipeline.replica.warehouse._MEMORY_LIMIT", 115_000_000)
    reviews, count = Reviews(372_000), 186
    answers = (httpx.Response(200, content=reviews.page(None, n * 1000, 1000)) for n in range(2 * count))
    pages = [parse_page(answer, REVIEWS, "reading") for answer in answers]
    batches = {"batch_a": pages[:count], "batch_b": pages[count:]}
    with contextlib.closing(Warehouse(tmp_path / "warehouse.duckdb")) as warehouse, warehouse.beside() as staging:

        def arrive(batch: str) -> None:
            for first in range(0, count, 10):
                stage(staging, REVIEWS, batch, batches[batch][first : first + 10])

        def land(batch: str) -> Changes:
            with warehouse.connect() as connection:
                take(connection, batch)
                with transaction(connection):
                    find_changes(connection, REVIEWS)
                    return upsert(connection, REVIEWS, timezone="UTC", keeps_track=True, keeps_history=True)

        for batch in batches:
            begin_batch(staging, REVIEWS, batch)
            arrive(batch)
        assert [land(batch).new for batch in batches] == [186_000, 186_000]
        with ThreadPoolExecutor(1) as beside:
            more = beside.submit(arrive, "batch_b")
            while not more.done():
                assert not land("batch_a")
            more.result()
        # All of them twice: once from before.
        assert not land("batch_b")
        assert warehouse.session.execute("select count(*) from memory.batch_b").fetchone() == (186_000,)
    [found] = query(tmp_path / "warehouse.duckdb", "select count(*), count(distinct id) from replica.reviews")
    assert found == (372_000, 372_000)
