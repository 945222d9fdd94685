"""What every request passes on its way in and out: room, key, rate, headers, log, count."""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter, time

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lenet.serve.access_log import AccessLog
from lenet.serve.problems import MEDIA_TYPE, ProblemError, encode
from lenet.serve.rate import RateLimit
from lenet.serve.service import RETRY_AFTER_S, Service

OPEN_PATHS = ("/", "/docs", "/openapi.json", "/health")
"""Need no key: they tell nothing of anyone, and a browser can't send one as it opens a page."""
OPEN_PREFIX = "/v2/health/"

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
API_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
MAX_LOGGED = 200
MISTAKE = "the server made a mistake"

Handler = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger(__name__)


class Guard:
    """The outermost ASGI application."""

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        log: AccessLog,
        fast_lane: Mapping[str, Handler],
    ) -> None:
        """Stand before `app`.

        Args:
            app: Answers requests.
            service: Says how much there is room for.
            log: Told of each request.
            fast_lane: Routes by path that are POSTed to so often that looking for them among
                all routes would cost more than to answer.
        """
        self._app, self._service, self._log = app, service, log
        self._fast_lane = fast_lane
        self._prefix, self._count = secrets.token_hex(4), 0
        rate = service.limits.rate
        self._rate = RateLimit(rate) if rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._count += 1
        exchange = _Exchange(f"{self._prefix}-{self._count}", self._service, send)
        method = scope["method"]
        if method == "HEAD":  # every route of GET takes it; uvicorn leaves the body out
            scope = {**scope, "method": "GET"}
        service, start = self._service, perf_counter()
        service.num_requests += 1
        try:
            await self._answer(scope, receive, exchange)
        except ClientDisconnect:
            exchange.status = exchange.status or 499  # nginx's number for a client that has left
        finally:
            service.num_requests -= 1
            self._note(scope, method, exchange, perf_counter() - start)

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        limits = self._service.limits
        try:
            self._admit(scope)
            async with asyncio.timeout(limits.request_s):
                handler = self._fast_lane.get(scope["path"])
                if handler is not None and scope["method"] == "POST":
                    exchange.route = scope["path"]
                    response = await handler(Request(scope, receive))
                    await response(scope, receive, exchange.send)
                else:
                    await self._app(scope, receive, exchange.send)
        except ProblemError as error:
            await exchange.send_problem(scope, error)
        except TimeoutError:
            self._service.metrics.refused.labels("time").inc()
            problem = ProblemError(
                503, f"no answer within {limits.request_s:g} s", retry_after_s=RETRY_AFTER_S
            )
            await exchange.send_problem(scope, problem)
        except ClientDisconnect:
            raise
        except Exception:  # our own mistake: the client is told so, the log says what it was
            logger.exception("request %s failed", exchange.id)
            if not exchange.is_complete:
                await exchange.send_problem(scope, ProblemError(500, MISTAKE))

    def _admit(self, scope: Scope) -> None:
        service, path = self._service, scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return
        if service.num_requests > service.limits.max_requests:
            service.metrics.refused.labels("requests").inc()
            raise ProblemError(
                503, "the server has all the work it takes on", retry_after_s=RETRY_AFTER_S
            )
        if service.key is not None and not _has_key(scope, service.key):
            raise ProblemError(
                401,
                "this needs the server's key: `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                headers={"www-authenticate": 'Bearer realm="lenet"'},
            )
        if self._rate is not None:
            client = scope.get("client")
            wait_s = self._rate.take(client[0] if client else "")
            if wait_s:
                service.metrics.refused.labels("rate").inc()
                raise ProblemError(
                    429, f"more than {self._rate.rate:g} requests a second", retry_after_s=wait_s
                )

    def _note(self, scope: Scope, method: str, exchange: "_Exchange", seconds: float) -> None:
        route = exchange.route or getattr(scope.get("route"), "path", "other")
        counted = method if route != "other" else "other"
        self._service.metrics.count_request(route, counted, exchange.status, seconds)
        if not self._log.is_on:
            return
        client = scope.get("client")
        self._log.add(
            {
                "time": time(),
                "id": exchange.id,
                "client": client[0] if client else None,
                "method": method[:MAX_LOGGED],
                "path": scope["path"][:MAX_LOGGED],
                "status": exchange.status,
                "ms": round(seconds * 1000, 3),
                "bytes": exchange.num_bytes,
            }
        )


class _Exchange:
    """An answer on its way out."""

    def __init__(self, name: str, service: Service, send: Send) -> None:
        self.id, self._service, self._send = name, service, send
        self.status, self.num_bytes, self.is_complete = 0, 0, False
        self.route = ""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # A new list: that of a response that is sent again must not grow.
            headers = [*message["headers"], *SECURITY_HEADERS, (b"x-request-id", self.id.encode())]
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers += API_HEADERS
            if self._service.is_draining:
                # Else a client sends its next request on a connection that is about to close.
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        else:
            self.num_bytes += len(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
        await self._send(message)

    async def send_problem(self, scope: Scope, problem: ProblemError) -> None:
        if self.status:
            raise problem  # half an answer is out: the connection must end
        body = encode(problem.status, problem.detail, scope["path"], problem.members)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.encode(), value.encode()) for name, value in problem.headers.items()),
        ]
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})


def _has_key(scope: Scope, key: bytes) -> bool:
    given = b""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            given = value[7:].strip()
        elif name == b"x-api-key":
            given = value.strip()
    # Takes as long for a key that is nearly right as for any other.
    return hmac.compare_digest(given, key)
