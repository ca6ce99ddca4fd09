"""What of people's data is published: which columns hold it, and what stands there in its place.

Pseudonyms are HMAC-SHA256 of what they stand for: the same for the same person in every table and every version of
the file, and nobody's without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb

from smileback_pipeline.endpoints import ENDPOINTS, Holds, Type
from smileback_pipeline.replica import history
from smileback_pipeline.settings import Settings

Mode = Literal["full", "pseudonymous", "none"]

# To be raised when what is published of people changes, so that the file is published anew.
_RULES = 1
_KEY_FILE = "pseudonyms.key"
_PSEUDONYM_DIGITS = 16
_PEOPLES_DIMENSIONS = "('agent', 'contact')"
# As in the marts: a blank is nobody's name. Names that differ in spacing are two there, and so are their pseudonyms.
_IS_VISIBLE = r"regexp_matches({}, '[^\p{{Z}}\p{{Cc}}]')"


@dataclass(frozen=True)
class Privacy:
    """How much of people is published; `key` makes the pseudonyms."""

    mode: Mode = "full"
    key: bytes = field(default=b"", repr=False)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same replica would be published in another way; gives nothing of the key away."""
        return f"{self.mode} {_RULES} {_pseudonym(self.key, 'fingerprint', '') if self.key else ''}".strip()


EVERYTHING = Privacy("full")


def privacy_of(settings: Settings) -> Privacy:
    """Return what the settings ask for. The key of pseudonyms is made once, unless one is set."""
    if settings.privacy != "pseudonymous":
        return Privacy(settings.privacy)
    if settings.privacy_key:
        given = settings.privacy_key.get_secret_value().encode()
    else:
        given = _kept_key(settings.token_path.with_name(_KEY_FILE))
    return Privacy("pseudonymous", hashlib.sha256(given).digest())


def _kept_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes().strip()
    with os.fdopen(descriptor, "w") as file:
        key = secrets.token_hex(32)
        file.write(f"{key}\n")
    return key.encode()


def prepare(connection: duckdb.DuckDBPyConnection, privacy: Privacy) -> None:
    """Let the statements of `published_rows` run in this connection, on the people whom its replica knows."""
    if privacy.mode != "pseudonymous":
        return
    # HMAC by its definition (RFC 2104), in DuckDB, which is fast; the key is in no statement that an error could show.
    block = privacy.key.ljust(64, b"\0")
    connection.execute("set variable inner_key = ?::blob", [bytes(byte ^ 0x36 for byte in block)])
    connection.execute("set variable outer_key = ?::blob", [bytes(byte ^ 0x5C for byte in block)])
    connection.execute(
        f"""
        create or replace temp macro pseudonym(kind, value) as kind || ' ' || left(
            sha256(getvariable('outer_key') || unhex(sha256(getvariable('inner_key') || encode(kind || ':' || value)))),
            {_PSEUDONYM_DIGITS}
        );
        create or replace temp macro person(name) as
            case when {_IS_VISIBLE.format("name")} then pseudonym('person', name) end;
        create or replace temp macro address(address) as
            case when {_IS_VISIBLE.format("address")} then pseudonym('address', lower(trim(address))) end;
        """
    )
    names = connection.execute(
        """
        select name from replica.csat_contacts union select name from replica.csat_agents
        union select contact_name from replica.reviews union select unnest(ticket_agents) from replica.reviews
        union select concat_ws(' ', contact_first_name, contact_last_name) from replica.nps_responses
        union select concat_ws(' ', contact_first_name, contact_last_name) from replica.prj_responses
        """
    ).fetchall()
    redactor = Redactor(privacy, (name for (name,) in names if name))
    connection.create_function("redacted", redactor.redacted, ["varchar", "varchar[]"], "varchar")
    connection.create_function("redacted_all", redactor.redacted_all, ["varchar[]", "varchar[]"], "varchar[]")


def published_rows(schema: str, table: str, columns: list[str], privacy: Privacy) -> str:
    """The query for the rows of a table as they are published, `columns` in their order."""
    endpoint = next((each for each in ENDPOINTS if (schema, table) == ("replica", each.name)), None)
    declared = {column.name: column for column in endpoint.columns} if endpoint else _HELD_ANYWHERE
    own_names = _NAMES_OF_VERSION if f"{schema}.{table}" == history.TABLE else _own_names(columns)
    selected = []
    for name in columns:
        column = declared.get(name)
        expression = f'"{name}"'
        if name == "extra":
            # What is new to us can hold anything.
            expression = "null"
        elif column and column.holds:
            is_list = column.type is Type.TEXTS
            expression = _PUBLISHED[privacy.mode](name, column.holds, is_list, own_names)
        elif name in ("member", "member_id") and "dimension" in columns and privacy.mode == "pseudonymous":
            expression = f"case when dimension = 'agent' then person({name}) else {name} end"
        selected.append(f'{expression} as "{name}"')
    query = f'select {", ".join(selected)} from {schema}."{table}"'
    if privacy.mode == "none":
        if endpoint and declared.get("name", endpoint.key).holds is Holds.NAME:
            # A list of people.
            query += " where false"
        elif "dimension" in columns:
            query += f" where dimension not in {_PEOPLES_DIMENSIONS}"
    return query


def _pseudonymous(name: str, holds: Holds, is_list: bool, own_names: str) -> str:
    match holds:
        case Holds.NAME:
            return f'list_transform("{name}", lambda each: person(each))' if is_list else f'person("{name}")'
        case Holds.FIRST_NAME:
            return "null"
        case Holds.LAST_NAME:
            first = name.replace("last_name", "first_name")
            return f"""person(concat_ws(' ', "{first}", "{name}"))"""
        case Holds.EMAIL:
            return f'address("{name}")'
        case Holds.WORDS:
            return f'{"redacted_all" if is_list else "redacted"}("{name}", {own_names})'
        case Holds.ABOUT:
            return f'"{name}"'


def _none(name: str, holds: Holds, is_list: bool, own_names: str) -> str:
    return "null"


_PUBLISHED = {"pseudonymous": _pseudonymous, "none": _none}
# Tables that are made from the replica keep its columns' names.
_HELD_ANYWHERE = {
    column.name: column
    for endpoint in ENDPOINTS
    for column in endpoint.columns
    if column.holds and column.name != "name"
}

# What a review said earlier is about the same people.
_NAMES_OF_VERSION = f"""
    coalesce((
        select list_concat([contact_name], coalesce(ticket_agents, [])) from replica.reviews
        where reviews.id = {history.TABLE}.id
    ), [])
"""


def _own_names(columns: list[str]) -> str:
    """The names of the people whom a row is about, as a list."""
    names = ["[contact_name]"] if "contact_name" in columns else []
    if "contact_last_name" in columns:
        names.append("[concat_ws(' ', contact_first_name, contact_last_name)]")
    if "ticket_agents" in columns:
        names.append("coalesce(ticket_agents, [])")
    return f"list_concat({', '.join(names)})" if len(names) > 1 else names[0] if names else "[]::varchar[]"


class Redactor:
    """Finds people in free text by the names that the replica knows, and puts pseudonyms there.

    Names of two words or more are found in every text, in any case, with any of their words first; a name of one word
    only as it is written. In a text about somebody every word of their name is found. Whatever looks like an e-mail
    address is one.
    """

    _WORD = re.compile(r"[^\W_]+")
    _SIGN = r"[^\s<>()\[\],;:\"'|]"
    # From where it can begin to its first @, and no second try: a long text is read once.
    _ADDRESS = re.compile(rf"(?<!{_SIGN})(?>{_SIGN}+?@){_SIGN}*[^\W_]")

    def __init__(self, privacy: Privacy, names: Iterable[str]) -> None:
        self._key = privacy.key
        self._by_first_word: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        self._single: dict[str, str] = {}
        for name in names:
            words = tuple(self._words(name))
            if len(words) == 1 and len(words[0]) > 1:
                self._single[name.strip()] = name
            elif len(words) > 1:
                for order in {(*words[first:], *words[:first]) for first in range(len(words))}:
                    self._by_first_word.setdefault(order[0], []).append((order, name))
        for found in self._by_first_word.values():
            found.sort(key=lambda entry: -len(entry[0]))

    def redacted(self, text: str, people: list[str | None]) -> str:
        """The text with pseudonyms for names; `people` are those whom it is about."""
        text = unicodedata.normalize("NFC", text)
        text = self._ADDRESS.sub(lambda found: _pseudonym(self._key, "address", found[0].lower()), text)
        parts = {word: name for name in people if name for word in self._words(name) if len(word) > 1}
        found = list(self._WORD.finditer(text))
        words = [match[0].casefold() for match in found]
        pieces, at, place = [], 0, 0
        while place < len(words):
            length, name = self._name_at(words, found[place][0], place, parts)
            if name:
                pieces += [text[at : found[place].start()], _pseudonym(self._key, "person", name)]
                at = found[place + length - 1].end()
            place += length
        return "".join([*pieces, text[at:]])

    def redacted_all(self, texts: list[str | None], people: list[str | None]) -> list[str | None]:
        """The same for each of some texts."""
        return [text and self.redacted(text, people) for text in texts]

    def _name_at(self, words: list[str], written: str, place: int, parts: dict[str, str]) -> tuple[int, str | None]:
        """How many words from `place` on are a name, and whose; one word and nobody's if they are not."""
        for name_words, name in self._by_first_word.get(words[place], ()):
            if tuple(words[place : place + len(name_words)]) == name_words:
                return len(name_words), name
        return 1, parts.get(words[place]) or self._single.get(written)

    def _words(self, text: str) -> list[str]:
        return [match[0].casefold() for match in self._WORD.finditer(unicodedata.normalize("NFC", text))]


def _pseudonym(key: bytes, kind: str, value: str) -> str:
    digest = hmac.new(key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()
    return f"{kind} {digest[:_PSEUDONYM_DIGITS]}"
