"""Faults on request: an ordered list of rules, each of which may spoil the answers to some requests.

    sandbox.faults.add("reviews", respond(503), after=2)  # the third page, once
    sandbox.faults.add("token", reset(once_done=True))  # rotates, and the answer never arrives
    sandbox.faults.add("reviews", call(lambda s: s.world.remove("reviews", 7)), after=1)
    sandbox.faults.add("*", rewrite(lambda page: page | {"results": None}), times=FOREVER)

Every rule that applies to a request acts on it, the first one outermost: `respond` and a plain `reset` answer, the
others go on to the next rule. What goes wrong on the wire really does: bodies stop, connections are reset.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from smileback_pipeline.sandbox.server import Sandbox

FOREVER = None

Proceed = Callable[[], Awaitable[Response]]


@dataclass(frozen=True)
class Exchange:
    """One request, as an action sees it. `endpoint` is that of the log: "reviews", "token", …"""

    sandbox: "Sandbox"
    request: Request
    endpoint: str


Action = Callable[[Exchange, Proceed], Awaitable[Response]]


@dataclass
class Rule:
    endpoint: str
    action: Action
    after: int  # matching requests that it lets pass first
    times: int | None
    when: Callable[[Request], bool]
    seen: int = 0  # matching requests so far

    def applies(self, exchange: Exchange) -> bool:
        if self.endpoint not in ("*", exchange.endpoint) or not self.when(exchange.request):
            return False
        self.seen += 1
        return self.seen > self.after and (self.times is FOREVER or self.seen <= self.after + self.times)


class Faults:
    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(
        self,
        endpoint: str,
        action: Action,
        *,
        after: int = 0,
        times: int | None = 1,
        when: Callable[[Request], bool] = lambda request: True,
    ) -> Rule:
        """Let `action` meet requests to `endpoint` ("*": any) that fulfil `when`: `times` of them (FOREVER: all)
        after the first `after`. Each rule counts for itself, from when it is added."""
        rule = Rule(endpoint, action, after, times, when)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        self._rules.clear()

    async def answer(self, exchange: Exchange, proceed: Proceed) -> Response:
        for rule in reversed([rule for rule in self._rules if rule.applies(exchange)]):
            proceed = partial(rule.action, exchange, proceed)
        return await proceed()


# What can go wrong


def respond(
    status: int,
    body: Any = b"",
    *,
    headers: dict[str, str] | None = None,
    media_type: str = "application/json",
) -> Action:
    """Answer so, without doing anything. `body` is bytes, text or something to be written as JSON."""
    content = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else orjson.dumps(body)

    async def action(exchange: Exchange, proceed: Proceed) -> Response:
        return Response(content, status, headers, media_type)

    return action


def html(status: int = 200, title: str = "Sorry, something went wrong") -> Action:
    return respond(status, f"<!doctype html><title>{title}</title><h1>{title}</h1>", media_type="text/html")


def rewrite(change: Callable[[Any], Any]) -> Action:
    """Answer with `change(page)` in place of the page, its decoded JSON: missing results, a wrong `next` or `count`."""

    async def action(exchange: Exchange, proceed: Proceed) -> Response:
        answer = await proceed()
        return Response(orjson.dumps(change(orjson.loads(answer.body))), answer.status_code, None, "application/json")

    return action


def call(function: Callable[["Sandbox"], Any]) -> Action:
    """Do something first: edit `sandbox.world` between two pages, or `sandbox.oauth.expire_access_tokens()`."""

    async def action(exchange: Exchange, proceed: Proceed) -> Response:
        function(exchange.sandbox)
        return await proceed()

    return action


def delay(seconds: float) -> Action:
    async def action(exchange: Exchange, proceed: Proceed) -> Response:
        await asyncio.sleep(seconds)
        return await proceed()

    return action


def cut(fraction: float = 0.5, *, framing: str = "length") -> Action:
    """Send the beginning of the answer, then close. `framing` is how the whole would have been delimited: "length"
    (by Content-Length), "chunked", or "close" (by the end of the connection, so that only the JSON tells)."""

    async def action(exchange: Exchange, proceed: Proceed) -> Response:
        return _Cut(await proceed(), fraction, framing, exchange.sandbox)

    return action


def reset(*, once_done: bool = False) -> Action:
    """Reset the connection (TCP RST) in place of an answer; `once_done`: after the server did its work."""

    async def action(exchange: Exchange, proceed: Proceed) -> Response:
        await exchange.request.body()  # a client that is still sending might not see the RST
        if once_done:
            await proceed()
        return _Reset(exchange.sandbox)

    return action


class _Cut(Response):
    def __init__(self, whole: Response, fraction: float, framing: str, sandbox: "Sandbox") -> None:
        super().__init__(whole.body, whole.status_code, dict(whole.headers))
        self._part = bytes(whole.body)[: int(len(whole.body) * fraction)]
        self._framing, self._sandbox = framing, sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._framing == "close":
            transport = self._sandbox.transports[scope["client"]]
            head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
            transport.write(head.encode() + self._part)
            transport.close()
            await _disconnected(receive)
            return
        headers = [pair for pair in self.raw_headers if self._framing == "length" or pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self._part, "more_body": True})
        # Returning with more_body outstanding makes uvicorn close the connection.


class _Reset(Response):
    def __init__(self, sandbox: "Sandbox") -> None:
        super().__init__(status_code=0)
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = self._sandbox.transports[scope["client"]]
        # To linger for no time at all is to send RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
