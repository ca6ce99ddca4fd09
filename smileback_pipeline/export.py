"""Tables of the published file as files that other tools open: CSV, Excel, Parquet."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException

from smileback_pipeline.replica.publishing import replacing

_NUMBER = r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\([\d,]+\)"
_NOT_TEXT = re.compile(rf"{_NUMBER}|BOOLEAN|DATE|TIMESTAMP( WITH TIME ZONE)?")
_NESTED = re.compile(r".*\]|(STRUCT|MAP|UNION)\(.*|VARIANT", re.DOTALL)

# Where a spreadsheet can see a cell begin: where the text does, or within it if it splits at its own country's
# separator and so takes our quotes for text. And what it then takes for the beginning of a formula (OWASP, "CSV
# Injection"; the wide signs where Japanese is written). An apostrophe between the two makes it text.
_FORMULA = r"(^|[;\t\r\n])([ '\"]*[-=+@－＝＋＠])"  # noqa: RUF001

_SHEET_ROWS = 1_048_576
_BATCH = 10_000
_WIDTH = 20
# Excel rounds longer numbers, knows no earlier days, and cuts longer texts at 32,767 characters.
_SHEET_NUMBERS = 10**15
_SHEET_YEAR = 1900
_WAS_CUT = -2


class ExportError(Exception):
    """Nothing was written; the message says why and what to do."""


def export(published: Path, target: Path, *, table: str | None = None, sql: str | None = None) -> str:
    """Write a table of the published file, or the answer to a query, to `target`; return in a sentence what was done.

    The end of the target's name is the format. A file that is there is replaced as a whole, or stays as it was.
    Raises ExportError.
    """
    write = _FORMATS.get(target.suffix.lower())
    if write is None:
        raise ExportError(f"{target} has to end in {', '.join(_FORMATS)}: that says in which format to write.")
    if not published.exists():
        raise ExportError(
            f"Nothing is published yet: there is no {published}. Sync first, or set SMILEBACK_ANALYTICS_PATH."
        )
    try:
        with contextlib.closing(duckdb.connect(published, read_only=True)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            query = sql or f"from {_found(connection, table)} order by all"
            connection.execute(f"create temp view answer as {query}")
            with replacing(target) as new:
                done = write(connection, new)
            return f"{target} is written. {done}"
    except (OSError, duckdb.Error, XlsxWriterException) as error:
        raise ExportError(f"{target} was not written: {str(error).strip().splitlines()[0]}") from None


def _found(connection: duckdb.DuckDBPyConnection, table: str | None) -> str:
    rows = connection.execute(
        "select table_schema || '.' || table_name from information_schema.tables "
        "where table_schema in ('marts', 'replica') order by all"
    ).fetchall()
    names = [name for (name,) in rows]
    for name in names:
        if table in (name, name.partition(".")[2]):
            return name
    raise ExportError(f"There is no table {table}. There are {', '.join(names)}.")


def _write_csv(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    formula = _FORMULA.replace("'", "''")
    columns = _columns(connection, text=f"regexp_replace({{}}, '{formula}', '\\1''\\2', 'g')")
    return _copy(connection, columns, path, "format csv, header")


def _write_parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    return _copy(connection, "*", path, "format parquet")


def _copy(connection: duckdb.DuckDBPyConnection, columns: str, path: Path, options: str) -> str:
    file = str(path).replace("'", "''")
    [[count]] = connection.execute(f"copy (select {columns} from answer) to '{file}' ({options})").fetchall()
    return f"Rows: {count:,}."


def _write_xlsx(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    [[count]] = connection.execute("select count(*) from answer").fetchall()
    if count >= _SHEET_ROWS:
        raise ExportError(
            f"{count:,} rows are more than the {_SHEET_ROWS - 1:,} that fit below the header of an Excel sheet: write "
            ".csv or .parquet, or fewer rows with --sql."
        )
    # A sheet has no time zones.
    columns = _columns(connection, instant="timezone('UTC', {})", instant_name="{} (UTC)")
    answer = connection.execute(f"select {columns} from answer")
    names = [name for name, *_ in answer.description]
    options = {
        # Row by row; what is temporary lies where the file will be.
        "constant_memory": True,
        "tmpdir": str(path.parent),
        # A text is a text, whatever it looks like.
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "nan_inf_to_errors": True,
    }
    count_cut = 0
    with xlsxwriter.Workbook(str(path), options) as book:
        formats = {
            date: book.add_format({"num_format": "yyyy-mm-dd"}),
            datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        sheet = book.add_worksheet()
        sheet.set_column(0, len(names) - 1, _WIDTH)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, count, len(names) - 1)
        sheet.write_row(0, 0, names, book.add_format({"bold": True}))
        first = 1
        while batch := answer.fetchmany(_BATCH):
            for row, values in enumerate(batch, first):
                for column, value in enumerate(values):
                    written = sheet.write(row, column, _cell(value), formats.get(type(value)))
                    count_cut += written == _WAS_CUT
            first += len(batch)
    cut = f" Texts that were too long for a cell, and are cut: {count_cut:,}." if count_cut else ""
    return f"Rows: {count:,}.{cut}"


def _cell(value: Any) -> Any:
    match value:
        case int() if abs(value) >= _SHEET_NUMBERS:
            return str(value)
        case date() if value.year < _SHEET_YEAR:
            return str(value)
        case _:
            return value


def _columns(
    connection: duckdb.DuckDBPyConnection, *, text: str = "{}", instant: str = "{}", instant_name: str = "{}"
) -> str:
    """The answer's columns as numbers, truth values, days, instants and texts; what is nested is a text of JSON."""
    columns = []
    for name, type, *_ in connection.execute("describe answer").fetchall():
        quoted = '"' + name.replace('"', '""') + '"'
        if type == "TIMESTAMP WITH TIME ZONE":
            columns.append(f'{instant.format(quoted)} as {instant_name.format(quoted[:-1])}"')
        elif _NOT_TEXT.fullmatch(type):
            columns.append(quoted)
        else:
            as_text = f"cast({f'to_json({quoted})' if _NESTED.fullmatch(type) else quoted} as varchar)"
            columns.append(f"{text.format(as_text)} as {quoted}")
    return ", ".join(columns)


_FORMATS: dict[str, Callable[[duckdb.DuckDBPyConnection, Path], str]] = {
    ".csv": _write_csv,
    ".xlsx": _write_xlsx,
    ".parquet": _write_parquet,
}
