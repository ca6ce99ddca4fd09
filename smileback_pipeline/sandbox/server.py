"""The sandbox as a server on loopback: routes, log, rate limit, and its start and stop."""

import asyncio
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from threading import Event, Thread
from typing import Any, cast

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from smileback_pipeline.sandbox import lists
from smileback_pipeline.sandbox.faults import Exchange, Faults
from smileback_pipeline.sandbox.oauth import Account, AuthorizationServer, read_form
from smileback_pipeline.sandbox.world import ENDPOINTS, World

QUOTA_WINDOW_SECONDS = 60.0


@dataclass
class LoggedRequest:
    """A request as it came in. `status` is None until it is answered, 0 if the connection was reset instead."""

    at: float  # on the sandbox's clock, in seconds
    wall: datetime
    method: str
    path: str
    query: dict[str, str]
    endpoint: str  # "reviews" …, "token", "revoke", "authorize", or "" for unknown paths
    status: int | None = None


class RequestLog(list[LoggedRequest]):
    def to(self, endpoint: str) -> list[LoggedRequest]:
        return [request for request in self if request.endpoint == endpoint]

    def most_data_requests_within(self, seconds: float = QUOTA_WINDOW_SECONDS) -> int:
        """The largest number of requests for data, however answered, in any half-open window of that length."""
        times = sorted(request.at for request in self if request.endpoint in ENDPOINTS)
        first, most = 0, 0
        for last, at in enumerate(times):
            while times[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


class Throttle:
    """Django REST framework's rate limit: a sliding log of the accepted requests."""

    def __init__(self, requests_per_minute: int, clock: Callable[[], float]) -> None:
        self._limit, self._clock = requests_per_minute, clock
        self._accepted: deque[float] = deque()

    def seconds_to_wait(self) -> int:
        """0, and the request is counted; else the whole seconds until there is room for one."""
        now = self._clock()
        while self._accepted and self._accepted[0] <= now - QUOTA_WINDOW_SECONDS:
            self._accepted.popleft()
        if len(self._accepted) < self._limit:
            self._accepted.append(now)
            return 0
        return math.ceil(QUOTA_WINDOW_SECONDS - (now - self._accepted[0]))


class Sandbox:
    """An ASGI application that speaks as SmileBack about a world, and the handles to watch and to trouble it.

    `speed` is how fast the world's time runs: 0 leaves it where it is; at 60 an hour passes in a minute, until it has
    reached the wall clock, which it never overtakes. `clock` (in seconds) drives the rate limit and the tokens.
    `account` says which credentials are good; `list_options` (see `lists.ListOptions`) settle what no source does.
    """

    def __init__(
        self,
        world: World,
        *,
        requests_per_minute: int | None = None,
        expires_in: int = 36_000,
        speed: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        account: Account | None = None,
        **list_options: Any,
    ) -> None:
        self.world = world
        self.account = account or Account()
        self.client_id, self.client_secret = self.account.client_id, self.account.client_secret
        self.username, self.password = self.account.username, self.account.password
        self.requests_per_minute = requests_per_minute
        self.list_options = lists.ListOptions(**list_options)
        self.oauth = AuthorizationServer(self.account, expires_in, clock)
        self.faults = Faults()
        self.requests = RequestLog()
        self.failures: list[Exception] = []  # of the sandbox itself or of a fault's callback; answered with a 500
        self.transports: dict[tuple[str, int], Any] = {}  # by the client's address
        self.origin = ""  # known once a socket is bound
        self._clock = clock
        self._throttle = Throttle(requests_per_minute, clock) if requests_per_minute else None
        self._speed, self._started, self._begins_at = speed, time.monotonic(), world.now

    @property
    def base_url(self) -> str:
        return f"{self.origin}/api"

    @property
    def authorize_url(self) -> str:
        return f"{self.origin}/account/api/authorize/"

    def environment(self) -> dict[str, str]:
        """The variables with which the pipeline uses this sandbox."""
        return {
            "SMILEBACK_BASE_URL": self.base_url,
            "SMILEBACK_AUTHORIZE_URL": self.authorize_url,
            "SMILEBACK_CLIENT_ID": self.client_id,
            "SMILEBACK_CLIENT_SECRET": self.client_secret,
            "SMILEBACK_USERNAME": self.username,
            "SMILEBACK_PASSWORD": self.password,
            "SMILEBACK_REDIRECT_URI": self.account.redirect_uris[0],
            "SMILEBACK_REQUESTS_PER_MINUTE": str(self.requests_per_minute or 0),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = request.url.path
        logged = LoggedRequest(
            self._clock(),
            datetime.now(UTC),
            request.method,
            path,
            dict(request.query_params),
            _endpoint_of(path),
        )
        self.requests.append(logged)
        if self._speed:
            elapsed = timedelta(seconds=(time.monotonic() - self._started) * self._speed)
            self.world.advance(to=min(self._begins_at + elapsed, datetime.now(UTC)))
        exchange = Exchange(self, request, logged.endpoint)
        try:
            response = await self.faults.answer(exchange, lambda: self._answer(request, logged.endpoint))
        except Exception as error:
            self.failures.append(error)
            response = HTMLResponse("<!doctype html><title>Server Error (500)</title><h1>Server Error (500)</h1>", 500)
        logged.status = response.status_code
        await response(scope, receive, send)

    async def _answer(self, request: Request, endpoint: str) -> Response:
        if not endpoint:
            return HTMLResponse("<!doctype html><title>Not Found</title><h1>Not Found</h1>", 404)
        if not request.url.path.endswith("/"):
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{request.url.path}/{query}", 301)
        match endpoint:
            case "authorize":
                return self.oauth.authorize(request, await read_form(request))
            case "token" | "revoke" if request.method != "POST":
                return Response(b"", 405, {"Allow": "POST, OPTIONS"})
            case "token":
                return self.oauth.token(request, await read_form(request))
            case "revoke":
                return self.oauth.revoke(request, await read_form(request))
            case _:
                return self._list(request, endpoint)

    def _list(self, request: Request, endpoint: str) -> Response:
        if challenge := self.oauth.refusal(request.headers.get("authorization")):
            detail = "Authentication credentials were not provided."
            return _json({"detail": detail}, 401, {"WWW-Authenticate": challenge})
        if self._throttle and (wait := self._throttle.seconds_to_wait()):
            detail = f"Request was throttled. Expected available in {wait} second{'' if wait == 1 else 's'}."
            return _json({"detail": detail}, 429, {"Retry-After": str(wait)})
        if request.method not in ("GET", "HEAD"):
            detail = f'Method "{request.method}" not allowed.'
            return _json({"detail": detail}, 405, {"Allow": "GET, HEAD, OPTIONS"})
        try:
            url = f"{self.base_url}/v3/{endpoint}/"
            body = lists.page(self.world, endpoint, request.query_params, url, self.list_options)
        except lists.FilterError as bad:
            return _json(bad.body, 400)
        return Response(body, media_type="application/json")


def _endpoint_of(path: str) -> str:
    path = path.removesuffix("/")
    if path == "/account/api/authorize":
        return "authorize"
    if path in ("/api/token", "/api/revoke"):
        return path.rsplit("/", 1)[1]
    name = path.removeprefix("/api/v3/")
    return name if path.startswith("/api/v3/") and name in ENDPOINTS else ""


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, "application/json")


@contextmanager
def running_sandbox(world: World, *, port: int = 0, **options: Any) -> Iterator[Sandbox]:
    """Serve the world from a thread on 127.0.0.1, on a free port unless one is given; `options` are Sandbox's.

    What went wrong inside the sandbox is raised when the block is left.
    """
    sandbox = Sandbox(world, **options)
    with _bound(sandbox, "127.0.0.1", port) as listener:
        server = _QuickServer(_config(sandbox))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
        thread.start()
        try:
            yield sandbox
        finally:
            server.stop()
            thread.join()
    if sandbox.failures:
        raise sandbox.failures[0]


def serve(
    host_port: str = "127.0.0.1:8750",
    *,
    world: World | None = None,
    on_start: Callable[[Sandbox], None] = lambda sandbox: None,
    speed: float = 1.0,
    **options: Any,
) -> None:
    """Serve in the foreground until interrupted. `on_start` is called when connections are accepted.

    Unless a world is given, it is as old as the wall clock, or a month younger if time is to run faster.

    Raises ValueError for an address that is not on loopback, OSError for a port that is taken.
    """
    host, _, port = host_port.rpartition(":")
    host = host.strip("[]")
    if not (port.isdecimal() and _is_loopback(host)):
        raise ValueError(f"{host_port!r} is not a loopback address with a port, such as 127.0.0.1:8750")
    if world is None:
        world = World(now=datetime.now(UTC) - timedelta(days=30 if speed > 1 else 0))
    sandbox = Sandbox(world, speed=speed, **options)
    with _bound(sandbox, host, int(port)) as listener:
        on_start(sandbox)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(_config(sandbox)).run(sockets=[listener])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _bound(sandbox: Sandbox, host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=128) as listener:
        # asyncio leaves sockets of an unspecified protocol to Nagle, which costs each small answer 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound_port = listener.getsockname()[1]
        sandbox.origin = f"http://[{host}]:{bound_port}" if ":" in host else f"http://{host}:{bound_port}"
        yield listener


def _config(sandbox: Sandbox) -> uvicorn.Config:
    class Protocol(H11Protocol):
        """Lets faults reach the connection below the request."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(cast(Any, transport))
            self._address = transport.get_extra_info("peername")[:2]
            sandbox.transports[self._address] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            sandbox.transports.pop(self._address, None)
            super().connection_lost(exc)

    return uvicorn.Config(
        sandbox,
        http=Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
    )


class _QuickServer(uvicorn.Server):
    """Stops at once, from another thread; uvicorn's own way takes a fifth of a second, which many tests add up to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_running = Event()

    def stop(self) -> None:
        self._is_running.wait()
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._is_running.set()
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            cast(Any, connection).transport.abort()
