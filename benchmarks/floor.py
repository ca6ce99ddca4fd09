"""The floor: what any tool has to pay. Keep-alive HTTP, pages spooled to disk, one load of them by DuckDB.

No checks, no retries, no resumption, no marts. `python -m benchmarks.floor BASE_URL FILE`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import duckdb
import httpx

_SHAPE = {
    "results": [
        {
            "id": "BIGINT",
            "rating": "INTEGER",
            "comment": "VARCHAR",
            "ticket": {
                "id": "VARCHAR",
                "title": "VARCHAR",
                "segment": {"id": "VARCHAR", "name": "VARCHAR"},
                "agents": ["VARCHAR"],
                "closed_on": "TIMESTAMPTZ",
            },
            "contact": {"id": "VARCHAR", "name": "VARCHAR", "email": "VARCHAR"},
            "company": {
                "id": "VARCHAR",
                "name": "VARCHAR",
                "territory_name": "VARCHAR",
                "territory_remote_id": "VARCHAR",
                "market_name": "VARCHAR",
                "market_remote_id": "VARCHAR",
            },
            "status": "VARCHAR",
            "tags": ["VARCHAR"],
            "has_marketing_permission": "BOOLEAN",
            "viewed_on": "TIMESTAMPTZ",
            "rated_on": "TIMESTAMPTZ",
            "permalink": "VARCHAR",
            "last_modified": "TIMESTAMPTZ",
        }
    ]
}
_PAGES_A_STATEMENT = 5
_RECORDS = (
    f"select unnest(from_json(page, '{json.dumps(_SHAPE)}').results) as r from (select unnest(?::varchar[]) as page)"
)


def main(base_url: str, file: str) -> None:
    with tempfile.TemporaryDirectory() as spool, httpx.Client(timeout=60) as http:
        since: str | None = None
        pages: list[Path] = []
        while True:
            query = {"limit": "1000", "include_unrated": "true"} | ({"modified_since": since} if since else {})
            body = http.get(f"{base_url}/v3/reviews/", params=query).content
            pages.append(Path(spool) / f"{len(pages)}.json")
            pages[-1].write_bytes(body)
            since = body[body.rindex(b'"last_modified":"') + 17 :].split(b'"', 1)[0].decode()
            if b'"next":null' in body[:100]:
                break
        with duckdb.connect(file) as db:
            db.execute("set TimeZone = 'UTC'; begin")
            for first in range(0, len(pages), _PAGES_A_STATEMENT):
                into = "insert into staged" if first else "create temp table staged as"
                texts = [page.read_text() for page in pages[first : first + _PAGES_A_STATEMENT]]
                db.execute(f"{into} {_RECORDS}", [texts])
            db.execute(
                "create table reviews as select r.* from staged qualify row_number() over (partition by r.id) = 1"
            )
            db.execute("commit")


if __name__ == "__main__":
    main(*sys.argv[1:])
