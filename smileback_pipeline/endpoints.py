"""The nine endpoints of the Data Replication API, declared once: path, filter, key and the shape of a record.

Everything that reads, lands or shows an endpoint is derived from here. The facts are those of the vendor's
API documentation, version 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any


class Type(Enum):
    """What a field holds; the value is its DuckDB type in schema `replica`."""

    TEXT = "varchar"
    INTEGER = "integer"
    BIGINT = "bigint"
    BOOLEAN = "boolean"
    INSTANT = "timestamptz"
    TEXTS = "varchar[]"
    RATINGS = "struct(question varchar, rating integer, seq_number integer)[]"


class Holds(Enum):
    """What a field says of people, where it does: see `replica.privacy` for what becomes of it."""

    NAME = "name"
    """A whole name, or several."""
    FIRST_NAME = "first name"
    """Beside it is the last name, in a column that is called alike."""
    LAST_NAME = "last name"
    EMAIL = "e-mail address"
    WORDS = "words"
    """What somebody wrote, who may have named anybody."""
    ABOUT = "about"
    """What leads to a person or tells of one without a name."""


@dataclass(frozen=True)
class Column:
    """A leaf of a record: `path` is where the API has it, `name` the column it becomes."""

    path: str
    type: Type = Type.TEXT
    between: tuple[int, int] | None = None
    """Both ends included; a value outside cannot be right."""
    is_required: bool = False
    name: str = ""
    holds: Holds | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.replace(".", "_"))


@dataclass(frozen=True)
class Filter:
    """The one parameter by which an endpoint can be read incrementally, and the stamp that it filters by."""

    parameter: str
    stamp: str
    """Path of the stamp in the record."""
    reread: timedelta | None = None
    """How much of the recent past is read again once a day, for edits that the filter does not see."""


@dataclass(frozen=True)
class Endpoint:
    """One list of the API. Without a filter it is read whole at every sync."""

    path: str
    description: str
    columns: tuple[Column, ...]
    filter: Filter | None = None
    parameters: dict[str, str] = field(default_factory=dict, hash=False)
    """Sent with every request."""
    deleted_status: str | None = None
    """The `status` by which the API says that a record is gone."""
    day_stamps: tuple[str, ...] = ()
    """Columns whose days a record counts in; a record without any of them has no place in a report."""

    @property
    def name(self) -> str:
        """Table, asset and log name."""
        return self.path.replace("-", "_")

    @property
    def key(self) -> Column:
        """The column that identifies a record."""
        return next(column for column in self.columns if column.name == "id")

    def shape(self, leaf: Callable[[Column], Any]) -> dict[str, Any]:
        """The record as nested dicts, with what `leaf` says of a column in its place."""
        shape: dict[str, Any] = {}
        for column in self.columns:
            *parents, last = column.path.split(".")
            node = shape
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = leaf(column)
        return shape


def _member_list(path: str, description: str, *, of_people: bool = False) -> Endpoint:
    name = Column("name", holds=Holds.NAME if of_people else None)
    return Endpoint(path, description, (Column("id", is_required=True), name))


REVIEWS = Endpoint(
    path="reviews",
    description="One row per live review: the answer, or the still missing answer, to a closed ticket.",
    columns=(
        Column("id", Type.BIGINT, is_required=True),
        Column("rating", Type.INTEGER, between=(-1, 1)),
        Column("comment", holds=Holds.WORDS),
        Column("ticket.id"),
        Column("ticket.title", holds=Holds.WORDS),
        Column("ticket.segment.id"),
        Column("ticket.segment.name"),
        Column("ticket.agents", Type.TEXTS, holds=Holds.NAME),
        Column("ticket.closed_on", Type.INSTANT),
        Column("contact.id", holds=Holds.ABOUT),
        Column("contact.name", holds=Holds.NAME),
        Column("contact.email", holds=Holds.EMAIL),
        Column("company.id"),
        Column("company.name"),
        Column("company.territory_name"),
        Column("company.territory_remote_id"),
        Column("company.market_name"),
        Column("company.market_remote_id"),
        Column("status"),
        Column("tags", Type.TEXTS, holds=Holds.WORDS),
        Column("has_marketing_permission", Type.BOOLEAN),
        Column("viewed_on", Type.INSTANT),
        Column("rated_on", Type.INSTANT),
        Column("permalink", holds=Holds.ABOUT),
        Column("last_modified", Type.INSTANT),
    ),
    filter=Filter("modified_since", stamp="last_modified"),
    parameters={"include_unrated": "true"},
    deleted_status="deleted",
    day_stamps=("ticket_closed_on", "rated_on", "last_modified"),
)

NPS_RESPONSES = Endpoint(
    path="nps-responses",
    description="One row per answer to an NPS survey.",
    columns=(
        Column("id", Type.BIGINT, is_required=True),
        Column("score", Type.INTEGER, between=(0, 10), is_required=True),
        Column("comment", holds=Holds.WORDS),
        Column("has_marketing_permission", Type.BOOLEAN),
        Column("contact.id", holds=Holds.ABOUT),
        Column("contact.first_name", holds=Holds.FIRST_NAME),
        Column("contact.last_name", holds=Holds.LAST_NAME),
        Column("contact.email", holds=Holds.EMAIL),
        Column("contact.company"),
        Column("contact.title", holds=Holds.ABOUT),
        Column("contact.location", holds=Holds.ABOUT),
        Column("contact_remote_id", holds=Holds.ABOUT),
        Column("campaign_name"),
        Column("created_at", Type.INSTANT),
    ),
    # There is no filter by modification: an edit of an older response is seen only by reading it again.
    filter=Filter("created_since", stamp="created_at", reread=timedelta(days=30)),
    day_stamps=("created_at",),
)

PRJ_RESPONSES = Endpoint(
    path="prj-responses",
    description="One row per answered project survey, with its ratings by category.",
    columns=(
        Column("response.id", is_required=True, name="id"),
        Column("response.ratings", Type.RATINGS, between=(1, 5), name="ratings"),
        Column("response.comment", name="comment", holds=Holds.WORDS),
        Column("response.survey_name", name="survey_name"),
        Column("response.is_published", Type.BOOLEAN, name="is_published"),
        Column("response.has_marketing_permissions", Type.BOOLEAN, name="has_marketing_permissions"),
        Column("response.has_google_redirect", Type.BOOLEAN, name="has_google_redirect"),
        Column("response.project_name", name="project_name", holds=Holds.WORDS),
        Column("response.project_company", name="project_company"),
        Column("response.project_phase", name="project_phase"),
        Column("response.date", Type.INSTANT, name="date"),
        Column("response.project_status", name="project_status"),
        Column("response.project_phase_status", name="project_phase_status"),
        Column("contact.first_name", holds=Holds.FIRST_NAME),
        Column("contact.last_name", holds=Holds.LAST_NAME),
        Column("contact.email", holds=Holds.EMAIL),
        Column("contact.remote_id", holds=Holds.ABOUT),
    ),
    day_stamps=("date",),
)

ENDPOINTS = (
    REVIEWS,
    NPS_RESPONSES,
    PRJ_RESPONSES,
    _member_list("csat-agents", "One row per agent that reviews can name.", of_people=True),
    _member_list("csat-boards", "One row per service board; reviews call it the ticket's segment."),
    _member_list("csat-companies", "One row per customer company."),
    _member_list("csat-contacts", "One row per person at a customer company.", of_people=True),
    _member_list("nps-campaigns", "One row per NPS campaign."),
    _member_list("prj-surveys", "One row per project survey."),
)
