"""A SmileBack of any size on loopback that costs next to nothing: pages are filled into a template on request.

`python -m benchmarks.server REVIEWS PORT [REQUESTS_PER_MINUTE]`; `POST /touch?n=1000&days=30` lets that many reviews of
the last 30 days change, `GET /requests` tells how many pages were asked for and how many of them were refused.
"""

from __future__ import annotations

import random
import sys
import time
from bisect import bisect_left
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import cache

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FIRST_ID = 30_000_000
FIRST_STAMP = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 730


class Reviews:
    """`count` reviews whose stamps spread evenly over two years, and changed ones behind them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._step = timedelta(days=DAYS) / max(count, 1)
        # Whoever asks for help does so once a month.
        self._contacts = max(count // 24, 1)
        self._changed: list[tuple[datetime, int]] = []

    def touch(self, number: int, days: int) -> None:
        """Let some of the reviews of the last days change now."""
        begin = self._changed[-1][0] if self._changed else FIRST_STAMP + timedelta(days=DAYS, hours=1)
        recent = range(self.count - self.count * days // DAYS, self.count)
        chosen = random.Random(len(self._changed)).sample(recent, min(number, len(recent)))
        self._changed += [(begin + timedelta(milliseconds=i + 1), review) for i, review in enumerate(chosen)]

    def page(self, since: datetime | None, offset: int, limit: int) -> bytes:
        begin, begin_changed = 0, 0
        if since is not None:
            begin = min(max(-(-(since - FIRST_STAMP) // self._step), 0), self.count)
            begin_changed = bisect_left(self._changed, (since, -1))
        total = self.count - begin + len(self._changed) - begin_changed
        first, last = begin + offset, min(begin + offset + limit, self.count)
        rows = [_review(i, FIRST_STAMP + i * self._step, 0, self._contacts) for i in range(first, last)]
        if len(rows) < limit:
            skip = begin_changed + max(0, begin + offset - self.count)
            changed = self._changed[skip : skip + limit - len(rows)]
            rows += [_review(i, stamp, 1, self._contacts) for stamp, i in changed]
        more = b'"http://next/"' if offset + len(rows) < total else b"null"
        return b'{"count":%d,"next":%s,"previous":null,"results":[%s]}' % (total, more, b",".join(rows))


@cache
def _template(variant: int) -> bytes:
    agents = ('"AK","NF"', '"JD"', '"MM"', '"AK"')[variant % 4]
    return (
        '{"id":%%d,"rating":%s,"comment":%s,"ticket":{"id":"%%d","title":"Printer offline after update","segment":{"id":'
        '"%d","name":"Board %d"},"agents":[%s],"closed_on":"%%s"},"contact":{"id":"%%d","name":"Contact %%d","email":'
        '"contact%%d@example.com"},"company":{"id":"%d","name":"Company %d","territory_name":"North","territory_remote_id":'
        '"2","market_name":"Retail","market_remote_id":"14"},"status":"open","tags":[],"has_marketing_permission":false,'
        '"viewed_on":null,"rated_on":%s,"permalink":"https://app.smileback.io/reviews/%%d/","last_modified":"%%s"}'
        % (
            ("1", "null", "0", "1", "-1", "null", "1", "null")[variant % 8],
            ("null", '"quick fix 😀, thank you"', '"took a while, but \\"works\\" now"')[variant % 3],
            variant % 8,
            variant % 8,
            agents,
            *[variant % 80] * 2,
            "null" if variant % 8 in (1, 5, 7) else '"%s"',
        )
    ).encode()


def _review(index: int, stamp: datetime, version: int, contacts: int) -> bytes:
    variant = (index * 7919 + version) % 7200
    template = _template(variant)
    written = stamp.isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
    rated = () if variant % 8 in (1, 5, 7) else (written,)
    return template % (FIRST_ID + index, index, written[:19] + b"Z", *[index % contacts] * 3, *rated, index, written)


def build_app(count: int, requests_per_minute: int | None = None) -> Starlette:
    """The application; any credentials are good."""
    reviews = Reviews(count)
    recent: deque[float] = deque(maxlen=requests_per_minute)

    async def token(request: Request) -> Response:
        granted = {
            "access_token": "t",
            "refresh_token": "r",
            "expires_in": 36_000,
            "token_type": "Bearer",
            "scope": "read",
        }
        return JSONResponse(granted)

    asked = refused = 0

    async def listed(request: Request) -> Response:
        nonlocal asked, refused
        asked += 1
        if requests_per_minute:
            now = time.monotonic()
            if len(recent) == requests_per_minute and now - recent[0] < 60:
                refused += 1
                return Response(status_code=429, headers={"Retry-After": "5"})
            recent.append(now)
        if request.path_params["endpoint"] != "reviews":
            return JSONResponse({"count": 0, "next": None, "previous": None, "results": []})
        query = request.query_params
        since = datetime.fromisoformat(query["modified_since"]) if query.get("modified_since") else None
        limit = min(int(query.get("limit", 20)), 1000)
        return Response(reviews.page(since, int(query.get("offset", 0)), limit), media_type="application/json")

    async def touch(request: Request) -> Response:
        reviews.touch(int(request.query_params["n"]), int(request.query_params["days"]))
        return Response()

    async def requests(request: Request) -> Response:
        return JSONResponse({"asked": asked, "refused": refused})

    return Starlette(
        routes=[
            Route("/api/token/", token, methods=["POST"]),
            Route("/api/v3/{endpoint}/", listed),
            Route("/touch", touch, methods=["POST"]),
            Route("/requests", requests),
        ]
    )


if __name__ == "__main__":
    count, port, *limit = map(int, sys.argv[1:])
    uvicorn.run(build_app(count, *limit), host="127.0.0.1", port=port, log_level="error")
