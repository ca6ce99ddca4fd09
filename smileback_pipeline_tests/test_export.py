"""Exported files, read back by the tools that people open them with."""

import contextlib
import csv
import os
import re
import stat
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from smileback_pipeline.export import ExportError, export
from smileback_pipeline.settings import PROJECT_ROOT

COMMAND = str(Path(sys.executable).with_name("smileback-pipeline"))
FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", ' "=1', "'=1", "＝1"]  # noqa: RUF001
TEXTS = [
    *FORMULAS,
    "",
    "plain",
    "two\nlines",
    "a;=1+1;b",
    "Zoë 😀",
    'say "hi", then',
    "007",
    "http://x.example/",
    "a\x01b",
]
CELL_BEGINS = re.compile(r"[;\t\r\n]")
A_FORMULA = re.compile(r'[ "]*[-=+@－＝＋＠]')  # noqa: RUF001


def undone(text: str) -> str:
    """As docs/tools.md tells programs to read a CSV."""
    [told] = re.findall(r"```python\n(re\.sub.*)\n```", (PROJECT_ROOT / "docs" / "tools.md").read_text())
    return eval(told, {"re": re, "text": text})


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "analytics.duckdb"
    with contextlib.closing(duckdb.connect(path)) as connection:
        connection.execute("""
            create schema marts;
            create schema replica;
            create table marts.scores (member varchar, value double, count_responses bigint, is_small_sample boolean);
            insert into marts.scores values ('b', -12.5, 3, true), ('a', null, 40, false);
            create table marts.csat_daily (date_day date, net_csat double);
            create table replica.reviews (
                id bigint, comment varchar, ticket_agents varchar[], extra json, rated_on timestamptz, day date,
                ratings struct(question varchar, rating integer)[]
            );
            insert into replica.reviews values
                (9007199254740993, '=1+1', ['AK', '-NF'], '{"a": "=1"}', '2025-10-26 01:30:00.25+02', '1899-12-31',
                    [{question: 'Time', rating: 5}]),
                (-2, null, null, null, null, '2025-10-26', null);
            create table replica.comments (comment varchar);
        """)
        connection.executemany("insert into replica.comments values (?)", [[text] for text in TEXTS])
    return path


def csv_texts(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row[0] for row in csv.reader(file)][1:]


def sheet_rows(path: Path) -> list[list[object]]:
    book = openpyxl.load_workbook(path)
    return [[cell.value for cell in row] for row in book.active.iter_rows()]


def parquet(path: Path) -> pd.DataFrame:
    with contextlib.closing(duckdb.connect()) as connection:
        return connection.read_parquet(str(path)).df()


def test_a_table_is_the_same_rows_in_every_format(published: Path, tmp_path: Path) -> None:
    expected = [
        ["member", "value", "count_responses", "is_small_sample"],
        ["a", None, 40, False],
        ["b", -12.5, 3, True],
    ]
    for name in ("scores.csv", "scores.xlsx", "scores.parquet"):
        said = export(published, tmp_path / name, table="scores")
        assert said == f"{tmp_path / name} is written. Rows: 2."
    assert sheet_rows(tmp_path / "scores.xlsx") == expected
    assert (tmp_path / "scores.csv").read_text() == (
        "member,value,count_responses,is_small_sample\na,,40,false\nb,-12.5,3,true\n"
    )
    frames = [
        pd.read_csv(tmp_path / "scores.csv"),
        pd.read_excel(tmp_path / "scores.xlsx"),
        parquet(tmp_path / "scores.parquet"),
    ]
    for frame in frames:
        assert list(frame.columns) == expected[0]
        assert frame.astype(object).where(frame.notna(), None).values.tolist() == expected[1:]


def test_lists_are_json_instants_are_utc_and_no_id_is_rounded(published: Path, tmp_path: Path) -> None:
    for ending in ("csv", "xlsx", "parquet"):
        export(published, tmp_path / f"reviews.{ending}", table="replica.reviews")
    agents, ratings, extra = '["AK","-NF"]', '[{"question":"Time","rating":5}]', '{"a": "=1"}'
    header, negative, first = sheet_rows(tmp_path / "reviews.xlsx")
    assert header == ["id", "comment", "ticket_agents", "extra", "rated_on (UTC)", "day", "ratings"]
    instant = datetime(2025, 10, 25, 23, 30, 0, 250_000)
    assert first == ["9007199254740993", "=1+1", agents, extra, instant, "1899-12-31", ratings]
    assert negative == [-2, None, None, None, None, datetime(2025, 10, 26), None]
    with (tmp_path / "reviews.csv").open(newline="") as file:
        [_, written] = list(csv.DictReader(file))
    assert written == {
        "id": "9007199254740993",
        "comment": "'=1+1",
        "ticket_agents": agents,
        "extra": extra,
        "rated_on": "2025-10-25 23:30:00.25+00",
        "day": "1899-12-31",
        "ratings": ratings,
    }
    microseconds = "epoch_us(rated_on)"
    with contextlib.closing(duckdb.connect()) as connection:
        kept = connection.execute(
            f"select id, comment, ticket_agents, cast(extra as varchar), {microseconds}, day, ratings "
            f"from '{tmp_path}/reviews.parquet' where id > 0"
        ).fetchone()
    assert kept == (
        9007199254740993,
        "=1+1",
        ["AK", "-NF"],
        extra,
        int(instant.replace(tzinfo=UTC).timestamp() * 1_000_000),
        date(1899, 12, 31),
        [{"question": "Time", "rating": 5}],
    )


def test_no_text_of_a_csv_is_a_formula_and_each_can_be_had_as_it_was(published: Path, tmp_path: Path) -> None:
    export(published, tmp_path / "comments.csv", sql="select comment from replica.comments")
    texts = csv_texts(tmp_path / "comments.csv")
    assert [undone(text) for text in texts] == TEXTS
    assert [text[:1] for text in texts[: len(FORMULAS)]] == ["'", "'", "'", "'", "\t", "\r", "'", "'", "'"]
    assert texts[len(FORMULAS) :] == [text.replace(";=", ";'=") for text in TEXTS[len(FORMULAS) :]]


def test_texts_of_a_sheet_are_texts_whatever_they_look_like(published: Path, tmp_path: Path) -> None:
    export(published, tmp_path / "comments.xlsx", sql="select comment from replica.comments")
    with zipfile.ZipFile(tmp_path / "comments.xlsx") as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet and "hyperlink" not in sheet
    [_, *rows] = openpyxl.load_workbook(tmp_path / "comments.xlsx").active.iter_rows()
    # An empty text is an empty cell. What XML cannot hold Excel writes, and reads, as its number.
    assert [unescape(row[0].value or "") for row in rows] == TEXTS
    assert {row[0].data_type for row in rows if row[0].value} == {"s"}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20) | st.text("=-+@＝;\t\r\n'\" a", min_size=1), min_size=1))  # noqa: RUF001
def test_any_text_comes_back_and_none_begins_a_cell_as_a_formula(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("any")
    published = directory / "analytics.duckdb"
    with contextlib.closing(duckdb.connect(published)) as connection:
        connection.execute("create table said as select unnest(?::varchar[]) as comment", [texts])
    for ending in ("csv", "xlsx"):
        export(published, directory / f"said.{ending}", sql="select comment from main.said")
    written = csv_texts(directory / "said.csv")
    assert [undone(text) for text in written] == texts
    assert not any(A_FORMULA.match(cell) for text in written for cell in CELL_BEGINS.split(text))
    [_, *rows] = sheet_rows(directory / "said.xlsx")
    assert [unescape(str(value)) for (value,) in rows] == texts


def test_a_table_without_rows_has_its_header(published: Path, tmp_path: Path) -> None:
    for ending in ("csv", "xlsx", "parquet"):
        export(published, tmp_path / f"days.{ending}", table="csat_daily")
    assert (tmp_path / "days.csv").read_text() == "date_day,net_csat\n"
    assert sheet_rows(tmp_path / "days.xlsx") == [["date_day", "net_csat"]]
    assert list(parquet(tmp_path / "days.parquet").columns) == ["date_day", "net_csat"]


def test_what_does_not_fit_into_excel_is_told(published: Path, tmp_path: Path) -> None:
    rows = "select i from range({}) as numbers (i)"
    with pytest.raises(ExportError, match=r"1,048,576 rows are more than the 1,048,575 .* write \.csv or \.parquet"):
        export(published, tmp_path / "numbers.xlsx", sql=rows.format(1_048_576))
    assert not (tmp_path / "numbers.xlsx").exists()
    assert export(published, tmp_path / "numbers.csv", sql=rows.format(1_048_576)).endswith("Rows: 1,048,576.")

    said = export(
        published, tmp_path / "long.xlsx", sql="select repeat('😀', 16_384) as long, repeat('x', 32_767) as fits"
    )
    assert said.endswith("Rows: 1. Texts that were too long for a cell, and are cut: 1.")
    assert sheet_rows(tmp_path / "long.xlsx")[1] == ["😀" * 16_383, "x" * 32_767]


def test_a_file_is_for_its_user_alone_and_replaced_as_a_whole(published: Path, tmp_path: Path) -> None:
    target = tmp_path / "it's" / "scores.csv"
    export(published, target, table="scores")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    # An editor's, a person's; none of ours.
    (target.parent / ".scores.csv.swp").write_text("edited")
    (target.parent / ".scores.csv.d").mkdir()
    (target.parent / ".scores.csv.d" / "notes").write_text("mine")
    with target.open() as opened:
        export(published, target, sql="select 1 as one")
        assert opened.readline() == "member,value,count_responses,is_small_sample\n"
    assert target.read_text() == "one\n1\n"
    with pytest.raises(ExportError, match=r"scores\.csv was not written: Conversion Error"):
        export(published, target, sql="select cast(member as integer) from marts.scores")
    assert target.read_text() == "one\n1\n"
    assert {path.name for path in target.parent.rglob("*")} == {
        "scores.csv",
        ".scores.csv.swp",
        ".scores.csv.d",
        "notes",
    }


@pytest.mark.parametrize(
    ("asked", "target", "said"),
    [
        (
            {"table": "scores"},
            "x.ods",
            "x.ods has to end in .csv, .xlsx, .parquet: that says in which format to write.",
        ),
        (
            {"sql": "drop table marts.scores"},
            "x.csv",
            'x.csv was not written: Parser Error: syntax error at or near "drop"',
        ),
        ({"table": "scores"}, "analytics.duckdb/x.csv", "x.csv was not written: [Errno 17] File exists"),
    ],
)
def test_what_cannot_be_written_is_a_sentence(
    published: Path, tmp_path: Path, asked: dict[str, str], target: str, said: str
) -> None:
    with pytest.raises(ExportError, match=re.escape(said)):
        export(published, tmp_path / target, **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["analytics.duckdb"]


def test_a_person_exports_by_the_command(published: Path, tmp_path: Path) -> None:
    def run(*arguments: str, analytics: Path = published) -> tuple[int, str]:
        done = subprocess.run(
            [COMMAND, "export", *arguments],
            cwd=tmp_path,
            env={**os.environ, "SMILEBACK_ANALYTICS_PATH": str(analytics), "TZ": "America/New_York"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    assert run("marts.scores", "--to", "scores.XLSX") == (0, "scores.XLSX is written. Rows: 2.\n")
    assert len(sheet_rows(tmp_path / "scores.XLSX")) == 3
    assert run("reviews", "--to", "reviews.csv") == (0, "reviews.csv is written. Rows: 2.\n")
    assert "2025-10-25 23:30:00.25+00" in (tmp_path / "reviews.csv").read_text()
    tables = "marts.csat_daily, marts.scores, replica.comments, replica.reviews"
    assert run("score", "--to", "x.csv") == (1, f"Error: There is no table score. There are {tables}.\n")
    nowhere = tmp_path / "not yet.duckdb"
    said = f"Error: Nothing is published yet: there is no {nowhere}. Sync first, or set SMILEBACK_ANALYTICS_PATH.\n"
    assert run("scores", "--to", "x.csv", analytics=nowhere) == (1, said)
    status, said = run("scores", "--sql", "select 1", "--to", "x.csv")
    assert status == 2 and "Say which TABLE to write, or --sql." in said
