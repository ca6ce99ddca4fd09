"""Whatever comes in from outside is either understood or refused with a clear error: nothing crashes, nothing hangs.

Each run tries the same inputs; `FUZZ_EXAMPLES=5000 pytest …/test_fuzz.py` goes looking for others.
"""

import contextlib
import email.utils
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smileback_pipeline.api.authorization import AuthorizationRequest
from smileback_pipeline.api.client import format_stamp
from smileback_pipeline.api.errors import AccessError, TransientError, quoted, retry_after_seconds
from smileback_pipeline.api.pages import Page, parse_page, parse_stamp
from smileback_pipeline.automation.partitions import build_daily_partitions
from smileback_pipeline.endpoints import ENDPOINTS, NPS_RESPONSES, PRJ_RESPONSES, REVIEWS, Endpoint
from smileback_pipeline.replica.landing import (
    begin_batch,
    find_changes,
    find_unseen,
    remove_old_versions,
    stage,
    take,
    upsert,
)
from smileback_pipeline.replica.state import pending_days
from smileback_pipeline.replica.warehouse import Warehouse, transaction
from smileback_pipeline.replication import replicate
from smileback_pipeline.settings import ConfigurationError, Settings, load_settings, validated_settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def tries(count: int) -> settings:
    return settings(
        max_examples=EXAMPLES or count,
        derandomize=not EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# What comes in

characters = st.characters() | st.sampled_from("\0\x1b\u202e\ufeff\ud800\udc00\"\\\n=<;'")
texts = st.text(characters, max_size=20)
EXTREMES = [
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-02T00:00:00Z", "0000-01-01T00:00:00Z"),
    *("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00", "9999-12-30T00:00:00Z", "+10000-01-01T00:00:00Z"),
    *("infinity", "-infinity", "epoch", "now", "0044-03-15 (BC)", "294247-01-10T04:00:54.775806Z", "1e9", "24:00"),
    *("2026-02-30T00:00:00Z", "2026-06-30T23:59:60Z", "2026-W01-1", "20260101T000000Z", "2026-01-01", "2026-001"),
    *(
        "2026-01-01 00:00:00 America/New_York",
        "2026-01-01T00:00:00+99:99",
        "2026-01-01T24:00:00Z",
        "\u0662\u0660\u0662\u0666-01-01",
    ),
]
stamps = (
    st.sampled_from(EXTREMES) | st.datetimes(timezones=st.timezones() | st.just(UTC)).map(datetime.isoformat) | texts
)
numbers = st.sampled_from([0, 1, -1, 1.0, 1.5, 1e300, 5e-324, -0.0, 2**31, 2**63, -(2**63) - 1, 2**64, 10**40])
leaves = st.none() | st.booleans() | st.integers() | numbers | texts | stamps
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)

GOOD: dict[str, dict[str, Any]] = {
    "reviews": {"rating": 1, "rated_on": "2026-03-01T12:00:00Z", "last_modified": "2026-03-01T12:00:00Z"},
    "nps_responses": {"score": 9, "created_at": "2026-03-01T12:00:00Z"},
    "prj_responses": {"ratings": [{"question": "Q", "rating": 5}], "date": "2026-03-01T12:00:00Z"},
}


def good(endpoint: Endpoint, key: int) -> dict[str, Any]:
    """A record that is right."""
    if endpoint is PRJ_RESPONSES:
        return {"response": {"id": str(key), **GOOD[endpoint.name]}}
    return {"id": key if endpoint in (REVIEWS, NPS_RESPONSES) else str(key), **GOOD.get(endpoint.name, {})}


def merged(whole: Any, part: Any) -> Any:
    return whole | {
        name: merged(whole[name], value) if isinstance(value, dict) else value for name, value in part.items()
    }


def is_whole(key: Any) -> bool:
    """Whether an id is a whole number that fits 64 bits: as a number, also 1.0, or as a text."""
    text = str(key) if type(key) in (int, float, str) else ""
    fits = re.fullmatch("-?[1-9][0-9]{18}", text) and -(2**63) <= int(text) < 2**63
    return bool(fits or re.fullmatch(r"-?[0-9]{1,18}(\.0+)?", text))


@st.composite
def records(draw: st.DrawFn, endpoint: Endpoint) -> Any:
    """A record as the documentation has it, some fields of which are anything; or anything."""
    if draw(st.integers(0, 5)) == 0:
        return draw(values)
    record = merged(endpoint.shape(lambda column: None), good(endpoint, 1))
    for column in draw(st.lists(st.sampled_from(endpoint.columns), max_size=6)):
        *parents, last = column.path.split(".")
        parent = record
        for part in parents:
            parent = parent[part]
            if not isinstance(parent, dict):
                break
        else:
            if last == "status" and draw(st.booleans()):
                parent[last] = "deleted"
                continue
            likely = {"timestamptz": stamps, "varchar": texts}.get(column.type.value, leaves)
            parent[last] = draw(likely | values)
    for name in draw(st.lists(st.sampled_from(list(record)) | texts, max_size=2)):
        record[name] = draw(values)
    return record


def bodies(endpoint: Endpoint) -> st.SearchStrategy[bytes]:
    """Bodies of answers: anything, pages of anything, and pages that were damaged."""
    pages = st.fixed_dictionaries(
        {"count": leaves, "results": st.lists(records(endpoint), max_size=3) | values}, optional={"next": leaves}
    )
    written = (pages | values).map(as_json)
    damaged = st.builds(
        lambda body, at, put, cut: body[: at % (len(body) + 1)] + put + body[at % (len(body) + 1) + cut :],
        written,
        st.integers(0, 10_000),
        st.binary(max_size=4),
        st.integers(0, 5),
    )
    return st.binary() | written | damaged


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def page_of(results: list[Any], endpoint: Endpoint) -> Page:
    body = as_json({"count": len(results), "next": None, "previous": None, "results": results})
    return parse_page(httpx.Response(200, content=body), endpoint, "Reading")


# Answers


@tries(300)
@given(st.data(), st.sampled_from(ENDPOINTS))
def test_any_answer_is_a_page_or_an_error_to_retry(data: st.DataObject, endpoint: Endpoint) -> None:
    body = data.draw(bodies(endpoint))
    try:
        page = parse_page(httpx.Response(200, content=body), endpoint, "Reading")
    except TransientError as error:
        assert str(error).startswith("Reading: HTTP 200 with no content type that is no page of results")
        return
    assert len(page.keys) == len(page.stamps) == len(page)
    for stamp in page.stamps:
        assert stamp is None or parse_stamp(format_stamp(stamp)) == stamp


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"results":' * 50_000, b'{"count":1,"results":[' + b"[" * 9_999])
def test_an_answer_of_nothing_but_brackets_is_an_error_to_retry(nested: bytes) -> None:
    with pytest.raises(TransientError, match="no page of results"):
        parse_page(httpx.Response(200, content=nested), REVIEWS, "Reading")


@tries(300)
@given(stamps)
def test_any_stamp_is_an_instant_in_utc_or_none(stamp: str) -> None:
    instant = parse_stamp(stamp)
    assert instant is None or (instant.tzinfo is UTC and parse_stamp(format_stamp(instant)) == instant)


@tries(300)
@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"))
    | st.integers().map(str)
    | st.floats().map(str)
    | st.datetimes().map(email.utils.format_datetime)
    | st.from_regex(r"\A\w{3}, -?\d{1,9} \w{3} \d{1,9} \d{1,3}:\d\d:\d\d( [+-]\d{1,9}| \w{1,3})?\Z")
)
@example("NaN")
@example("-1")
@example("9" * 400)
@example("Mon, 01 Jan 0001 00:00:00 -0000")
def test_any_retry_after_is_a_time_to_wait_or_none(value: str) -> None:
    answer = httpx.Response(429, headers=[(b"Retry-After", value.encode("latin-1", "replace"))])
    seconds = retry_after_seconds(answer)
    assert seconds is None or seconds >= 0


@tries(200)
@given(st.text() | st.text("<>/scriptyle =\x1b", max_size=200))
def test_any_error_page_is_quoted_on_one_line(text: str) -> None:
    words = quoted(httpx.Response(500, content=text.encode("utf-8", "replace")))
    assert words.isprintable()
    assert 0 < len(words) <= 300


# Records


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    warehouse = Warehouse(tmp_path_factory.mktemp("replica") / "warehouse.duckdb")
    with warehouse.connect() as connection:
        yield connection


def land(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, page: Page, timezone: str = "UTC") -> None:
    begin_batch(connection, endpoint, "batch")
    stage(connection, endpoint, "batch", [page])
    take(connection, "batch")
    with transaction(connection):
        find_changes(connection, endpoint)
        upsert(connection, endpoint, timezone=timezone, keeps_track=True, keeps_history=True)


def rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"select * exclude ({'seen_at' if table == 'rejected_records' else 'synced_at'}) from replica.{table}"
    ).fetchall()


def empty(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> None:
    for table in (endpoint.name, "rejected_records", "pending_days", "walk_seen"):
        connection.execute(f"delete from replica.{table}")


@tries(100)
@given(st.data(), st.sampled_from(ENDPOINTS), st.sampled_from(["UTC", "Pacific/Kiritimati", "America/Adak"]))
def test_any_record_lands_or_is_set_aside_and_its_neighbours_land(
    replica: duckdb.DuckDBPyConnection, data: st.DataObject, endpoint: Endpoint, timezone: str
) -> None:
    record = data.draw(records(endpoint))
    empty(replica, endpoint)
    land(replica, endpoint, page_of([good(endpoint, 7001), record, good(endpoint, 7002)], endpoint), timezone)
    landed, rejected = rows(replica, endpoint.name), rows(replica, "rejected_records")
    ids = [str(row[0]) for row in landed]
    assert {"7001", "7002"} <= set(ids)
    is_deletion = endpoint is REVIEWS and isinstance(record, dict) and record.get("status") == "deleted"
    # Of a deletion nothing is left, if its id can be one.
    assert len(landed) - 2 + len(rejected) == (0 if is_deletion and is_whole(record["id"]) else 1)
    for name, key, kept, reason in rejected:
        assert (name, bool(key), bool(reason)) == (endpoint.name, True, True)
        assert json.loads(kept) is not ...
    types = [column.type.value for column in endpoint.columns]
    for row in landed:
        for value, kind in zip(row, types, strict=False):
            assert kind != "timestamptz" or value is None or isinstance(value, datetime)
    assert all(isinstance(day, date) for day in pending_days(replica))
    # The same again changes nothing, and nothing of it is left when the list is empty.
    land(replica, endpoint, page_of([good(endpoint, 7001), record, good(endpoint, 7002)], endpoint), timezone)
    assert (rows(replica, endpoint.name), rows(replica, "rejected_records")) == (landed, rejected)
    replica.execute("delete from replica.walk_seen")
    with transaction(replica):
        find_unseen(replica, endpoint)
        remove_old_versions(replica, endpoint, timezone=timezone)
    assert rows(replica, endpoint.name) == rows(replica, "rejected_records") == []


@tries(100)
@given(st.data(), st.sampled_from(ENDPOINTS))
def test_a_record_is_read_the_same_whether_or_not_all_around_it_is_as_documented(
    replica: duckdb.DuckDBPyConnection, data: st.DataObject, endpoint: Endpoint
) -> None:
    results = [good(endpoint, 7001), data.draw(records(endpoint))]
    seen = []
    for surroundings in ({"previous": None}, {"previous": None, "more": 1}, {}):
        empty(replica, endpoint)
        body = as_json({"count": 2, "next": None, "results": results} | surroundings)
        land(replica, endpoint, parse_page(httpx.Response(200, content=body), endpoint, "Reading"))
        seen.append((rows(replica, endpoint.name), rows(replica, "rejected_records")))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("is_as_documented", [True, False])
def test_bytes_that_are_no_text_are_marked_in_their_record_and_its_neighbours_land(
    replica: duckdb.DuckDBPyConnection, is_as_documented: bool
) -> None:
    empty(replica, REVIEWS)
    whole = REVIEWS.shape(lambda column: None) | ({} if is_as_documented else {"new": "😀"})
    said = {7001: "schön 😀", 7002: "BAD", 7003: None}
    results = [merged(whole, good(REVIEWS, key) | {"comment": comment}) for key, comment in said.items()]
    answer = {"count": 3, "next": None, "previous": None, "results": results}
    body = json.dumps(answer, ensure_ascii=False).encode()
    body = body.replace(b"BAD", b"caf\xe9 \xff!")
    land(replica, REVIEWS, parse_page(httpx.Response(200, content=body), REVIEWS, "Reading"))
    landed = replica.execute("select id, comment, extra ->> 'new' from replica.reviews order by id").fetchall()
    extra = None if is_as_documented else "😀"
    assert landed == [(7001, "schön 😀", extra), (7002, "caf\ufffd \ufffd!", extra), (7003, None, extra)]
    assert rows(replica, "rejected_records") == []


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ud83d\\ud83d", "\\ud83d and more", "\\ude00\\ud83d"])
@pytest.mark.parametrize("more", [{}, {"new": 1}, {"HALF": 1}])
def test_half_a_character_is_marked_in_its_record_and_its_neighbours_land(
    replica: duckdb.DuckDBPyConnection, half: str, more: dict[str, Any]
) -> None:
    """What a program leaves that counts in units of UTF-16 and cuts a text short."""
    empty(replica, REVIEWS)
    comments = {7001: "schön 😀", 7002: "cut HALF", 7003: None}
    whole = REVIEWS.shape(lambda column: None) | more
    results = [merged(whole, good(REVIEWS, key) | {"comment": comment}) for key, comment in comments.items()]
    body = as_json({"count": 3, "next": None, "previous": None, "results": results}).replace(b"HALF", half.encode())
    page = parse_page(httpx.Response(200, content=body), REVIEWS, "Reading")
    assert page.keys == [b"7001", b"7002", b"7003"]
    assert set(page.stamps) == {datetime(2026, 3, 1, 12, tzinfo=UTC)}
    land(replica, REVIEWS, page)
    landed = replica.execute("select id, comment from replica.reviews order by id").fetchall()
    marked = json.loads(f'"{half}"').encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert landed == [(7001, "schön 😀"), (7002, f"cut {marked}"), (7003, None)]
    assert "\ufffd" in marked
    assert rows(replica, "rejected_records") == []


@pytest.mark.parametrize("path", ["id", "last_modified"])
def test_a_key_or_a_stamp_that_is_no_text_sets_its_record_aside_and_its_neighbours_land(
    replica: duckdb.DuckDBPyConnection, path: str
) -> None:
    empty(replica, REVIEWS)
    records = [good(REVIEWS, 7001), good(REVIEWS, 7002) | {path: "BAD"}, good(REVIEWS, 7003)]
    body = as_json({"count": 3, "next": None, "previous": None, "results": records}).replace(b"BAD", b"\xff")
    page = parse_page(httpx.Response(200, content=body), REVIEWS, "Reading")
    assert [page.keys[0], page.keys[2], len(page)] == [b"7001", b"7003", 3]
    land(replica, REVIEWS, page)
    assert replica.execute("select id from replica.reviews order by id").fetchall() == [(7001,), (7003,)]
    reasons = {"id": "id is not a number", "last_modified": "last_modified is not a readable time"}
    assert replica.execute("select reason from replica.rejected_records").fetchall() == [(reasons[path],)]


@pytest.mark.parametrize("length", range(20, 60))
def test_an_unknown_field_of_any_length_lands(replica: duckdb.DuckDBPyConnection, length: int) -> None:
    """DuckDB quotes what it did not expect, and may cut the quotation in the middle of a character."""
    empty(replica, REVIEWS)
    name = "x" + "é" * length
    land(replica, REVIEWS, page_of([good(REVIEWS, 7001) | {"contact": {name: 1}}], REVIEWS))
    landed = replica.execute("select id, extra from replica.reviews").fetchall()
    assert landed == [(7001, f'{{"contact":{{"{name}":1}}}}')]


@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati", "America/Adak"])
def test_a_time_at_the_end_of_the_calendar_lands_only_if_everyone_can_read_it(
    replica: duckdb.DuckDBPyConnection, timezone: str
) -> None:
    """DuckDB's calendar is longer than Python's, and than those of most who read the file."""
    empty(replica, REVIEWS)
    paths = [column.path for column in REVIEWS.columns if column.name in REVIEWS.day_stamps]
    cases = dict(enumerate(((stamp, path) for stamp in EXTREMES for path in paths), start=1))
    page = []
    for key, (stamp, path) in cases.items():
        value: Any = stamp
        for part in reversed(path.split(".")):
            value = {part: value}
        page.append(merged(merged(REVIEWS.shape(lambda column: None), good(REVIEWS, key)), value))
    land(replica, REVIEWS, page_of(page, REVIEWS), timezone)
    assert all(isinstance(day, date) for day in pending_days(replica))
    landed = replica.execute(f"select id, {', '.join(REVIEWS.day_stamps)} from replica.reviews").fetchall()
    assert all(isinstance(stamp, datetime | None) for _, *stamps in landed for stamp in stamps)
    rejected = dict(replica.execute("select key::int, reason from replica.rejected_records").fetchall())
    assert sorted([*rejected, *(row[0] for row in landed)]) == list(cases)
    assert rejected == {key: f"{cases[key][1]} is not a readable time" for key in rejected}
    assert {cases[key][0] for key in rejected} >= {"infinity", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"}


class FewRecords:
    """A list as SmileBack serves it, in memory: filtered and ordered by its stamp, a page at a time."""

    requests, waited_seconds = 0, 0.0

    def __init__(self, records: list[Any]) -> None:
        self.records = records

    def fetch_page(self, endpoint: Endpoint, *, since: datetime | None, offset: int, limit: int = 2) -> Page:
        assert since is None or format_stamp(since)
        assert endpoint.filter
        stamped = [(parse_stamp(record.get(endpoint.filter.stamp)), record) for record in self.records]
        listed = [
            (stamp or datetime.min.replace(tzinfo=UTC), record) for stamp, record in stamped if stamp or not since
        ]
        listed = sorted((pair for pair in listed if not since or pair[0] >= since), key=lambda pair: pair[0])
        shown = [record for _, record in listed][offset : offset + limit]
        following = "more" if offset + limit < len(listed) else None
        body = as_json({"count": len(listed), "next": following, "previous": None, "results": shown})
        return parse_page(httpx.Response(200, content=body), endpoint, "Reading")


@tries(10)
@given(st.lists(stamps, min_size=1, max_size=5), st.sampled_from([REVIEWS, NPS_RESPONSES]), st.integers(0, 31_622_400))
@example(["0001-01-01T00:00:00Z"], REVIEWS, 300)
@example(["0001-01-02T00:00:00Z"], NPS_RESPONSES, 300)
@example(["9999-12-31T23:59:59.999999Z"] * 5, REVIEWS, 300)
@example(["9999-12-31T23:59:59.999999Z", "2026-01-01T00:00:00Z"], NPS_RESPONSES, 300)
@example(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"], REVIEWS, 300)
def test_records_of_any_times_are_replicated_again_and_again(
    tmp_path_factory: pytest.TempPathFactory, times: list[str], endpoint: Endpoint, lookback_seconds: int
) -> None:
    assert endpoint.filter
    stamp = endpoint.filter.stamp
    source: Any = FewRecords([good(endpoint, key) | {stamp: time} for key, time in enumerate(times, start=1)])
    chosen = validated_settings(lookback_seconds=lookback_seconds)
    warehouse = Warehouse(tmp_path_factory.mktemp("times") / "warehouse.duckdb")
    for full in (False, False, True):
        result = replicate(endpoint, source, warehouse, chosen, full=full)
        assert result.summary.rows + result.summary.rejected == len(times)
    source.records.append(good(endpoint, 100) | {stamp: format_stamp(datetime.now(UTC))})
    assert replicate(endpoint, source, warehouse, chosen).changes.new == 1
    warehouse.close()


# What people type


REQUESTS = [
    "http://127.0.0.1:8765/callback",
    "https://integration.example.com/callback?tenant=7",
    "http://[::1]:8765",
]
parts = st.sampled_from(
    [
        *(
            "http://127.0.0.1:8765/callback",
            "https://",
            "?",
            "&",
            "code=",
            "state=",
            "error=",
            "access_denied",
            "=",
            "%",
        ),
        *(
            "%00",
            "#",
            "[",
            ":",
            ":99999999",
            "@",
            "/callback",
            "error_description=",
            ";",
            "%zz",
            "\x1b[2J",
            "\ud800",
            "//",
        ),
    ]
)


@tries(200)
@given(st.sampled_from(REQUESTS), texts | st.lists(parts | texts, max_size=8).map("".join))
def test_any_pasted_address_is_refused_with_a_sentence(redirect_uri: str, pasted: str) -> None:
    request = AuthorizationRequest(validated_settings(client_id="a-client", redirect_uri=redirect_uri))
    for address in (pasted, redirect_uri + pasted):
        with pytest.raises(AccessError) as refusal:
            request.code_in(address)
        assert str(refusal.value).isprintable()


VARIABLES = list(Settings.model_fields)
likely = st.sampled_from(
    [
        *(
            "https://app.smileback.io/api",
            "http://127.0.0.1:8765/x",
            "https://[",
            "https://a:99999999/",
            "https://a b/",
        ),
        *("https://ü.example/", "https://a/?x=1", "https://a/#x", "//a", "https://\ud800/", "file", "keyring", "UTC"),
        *("localtime", "Factory", "Europe/Berlin", "../UTC", "~nobody-of-that-name/x", "\0", "a" * 300, "a/" * 3000),
        *("/", "/proc/self/mem/x", "-1", "1e3", "1" * 30, "1" * 5000, "0001-01-01", "9999-12-31", "20260101", "\udcff"),
    ]
)


@tries(200)
@given(st.sampled_from(VARIABLES), likely | texts | st.integers().map(str) | st.dates().map(str))
def test_any_value_of_a_variable_is_usable_or_an_error_that_names_it(variable: str, value: str) -> None:
    try:
        chosen = validated_settings(**{"client_id": "a", "client_secret": "b", variable: value})
    except ConfigurationError as error:
        assert f"SMILEBACK_{variable.upper()}" in str(error)
        assert str(error).isprintable()
        return
    use(chosen)


def use(chosen: Settings) -> None:
    """What is done with settings, up to where the network is asked."""
    with contextlib.suppress(ConfigurationError):
        chosen.require_credentials()
    assert datetime.now(chosen.zone)
    assert datetime.now(UTC) - chosen.lookback
    with contextlib.closing(duckdb.connect()) as connection:
        connection.execute(f"select timestamptz '2026-01-01' at time zone '{chosen.timezone}'").fetchall()
    assert httpx.URL(f"{chosen.base_url}/v3/reviews/").path.endswith("/v3/reviews/")
    request = AuthorizationRequest(chosen.model_copy(update={"redirect_uri": chosen.redirect_uri or REQUESTS[0]}))
    httpx.URL(request.url)
    for path in (chosen.duckdb_path, chosen.analytics_path, chosen.token_path):
        path.exists()
    for text in (chosen.client_id, chosen.username, chosen.scope, str(chosen.duckdb_path), str(chosen.token_path)):
        assert (text or "").encode() is not None
    for secret in (chosen.client_secret, chosen.password):
        assert (secret.get_secret_value() if secret else "").encode() is not None
    days = build_daily_partitions(chosen)
    assert days.get_last_partition_key() == datetime.now(chosen.zone).date().isoformat()


@pytest.mark.parametrize("content", ["SMILEBACK_CLIENT_ID=ü".encode("utf-16"), b"SMILEBACK_CLIENT_ID=\0", b"\xff\xfe"])
def test_a_dotenv_that_is_no_text_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Some editors write UTF-16."""
    monkeypatch.setattr("smileback_pipeline.settings.PROJECT_ROOT", tmp_path)
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read as text in UTF-8"):
        load_settings()
