"""History: what reviews said before, kept from the first sync on. Nothing is copied but what changed.

The replica says what SmileBack says now; `replica.review_versions` has what it said earlier, one row for each version
whose rating, status or comment was replaced. What is deleted in SmileBack is deleted there as well.
"""

from __future__ import annotations

import duckdb

from smileback_pipeline.endpoints import REVIEWS, Endpoint
from smileback_pipeline.replica.state import UNPUBLISHED, save_note

TABLE = "replica.review_versions"
COLUMNS = (
    "id bigint, rating integer, status varchar, comment varchar, rated_on timestamptz, last_modified timestamptz, "
    "replaced_at timestamptz"
)
_JUDGED_BY = ("rating", "status", "comment")


def keep_replaced(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, is_wanted: bool) -> None:
    """Keep the versions that temp table `changes` is about to replace, within the caller's transaction.

    Where history is not wanted, also what was kept before goes, from the published file as well.
    """
    if endpoint is not REVIEWS:
        return
    if not is_wanted:
        if connection.execute(f"delete from {TABLE} returning id").fetchone():
            save_note(connection, UNPUBLISHED, "history was removed")
        return
    connection.execute(
        f"""
        insert into {TABLE}
        select
            present.id, present.rating, present.status, present.comment, present.rated_on, present.last_modified,
            current_timestamp
        from (from changes where change in ('changed', 'withdrawn')) as replaced
        join replica.{endpoint.name} as present on present.id = replaced.id
        join staged on staged.rowid = replaced.staged_row
        where
            change = 'withdrawn'
            or ({", ".join(f"staged.{name}" for name in _JUDGED_BY)})
            is distinct from ({", ".join(f"present.{name}" for name in _JUDGED_BY)})
        """
    )
    connection.execute(f"delete from {TABLE} where id in (select id from staged where is_deleted)")


def forget_unseen(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> None:
    """Remove the versions of records that a complete walk over the whole list did not show any more."""
    if endpoint is REVIEWS:
        connection.execute(
            f"""
            delete from {TABLE} as version where not exists (
                select 1 from replica.walk_seen as seen
                where seen.endpoint = '{endpoint.name}' and seen.key = version.id::varchar
            )
            """
        )
