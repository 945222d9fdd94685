"""What every request passes: limits, key, rate, its route, security headers, log and metrics."""

import asyncio
import hmac
import json
import logging
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic, perf_counter
from typing import Any, TextIO

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lenet.serve.problems import ProblemError
from lenet.serve.service import Handler, Routes, Service

OPEN_PATHS = ("/", "/docs", "/openapi.json", "/health", "/v2/health/live", "/v2/health/ready")
"""Need no key and have no limit: they tell nothing secret, and health must always be answered."""
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
CLIENT_LEFT = 499
"""nginx's status for a client that closed its connection before the response."""
MAX_LOGGED = 200
BURST_S = 5.0
MAX_CLIENTS = 10_000
MAX_LINES = 10_000
FLUSH_S = 0.1

logger = logging.getLogger(__name__)


class RateLimit:
    """A token bucket for each client: `rate` requests a second, in bursts of `BURST_S`."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._burst = max(1.0, rate * BURST_S)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> bool:
        """Count a request, and return whether it is within the rate."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        self._buckets[client] = (tokens - 1 if tokens >= 1 else tokens), now
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)  # the one silent for longest
        return tokens >= 1


class AccessLog:
    """A JSON object a line for each request, written by a thread beside the event loop.

    While the stream's reader is slow, at most `MAX_LINES` are held; further ones are counted.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Log to a stream; None logs nothing."""
        self._stream = stream
        self._lines: deque[dict[str, Any]] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self.num_lost = 0
        if stream is not None:
            self._thread.start()

    def add(self, line: dict[str, Any]) -> None:
        """Queue a line."""
        if self._stream is None:
            return
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self.num_lost += 1

    def close(self) -> None:
        """Write the remaining lines, unless the stream is stuck."""
        self._ended.set()
        if self._stream is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        assert self._stream is not None
        while not self._ended.wait(FLUSH_S) or self._lines:
            texts = []
            while self._lines:
                texts.append(json.dumps(self._lines.popleft()) + "\n")
            try:
                self._stream.write("".join(texts))
                self._stream.flush()
            except (OSError, ValueError):  # the reader is gone; the server goes on
                self.num_lost += len(texts)


class Guard:
    """The ASGI application: finds a request's route, and answers within the limits."""

    def __init__(
        self, routes: Routes, service: Service, log: AccessLog, *, lifespan: ASGIApp
    ) -> None:
        """Answer by `routes` within the limits of `service`; write each request to `log`."""
        self._routes, self._service, self._log = routes, service, log
        self._lifespan = lifespan
        self._prefix, self._count = secrets.token_hex(4), 0
        rate = service.limits.rate
        self._rate = RateLimit(rate) if rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        self._count += 1
        request_id = f"{self._prefix}-{self._count}"
        status = num_bytes = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status, num_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                # A new list: that of a response that is sent again must not grow.
                headers = [*message["headers"], *SECURITY_HEADERS]
                headers.append((b"x-request-id", request_id.encode()))
                if not any(name == b"content-security-policy" for name, _ in headers):
                    headers += API_HEADERS
                if self._service.is_draining:
                    # Otherwise a client would send its next request on a closing connection.
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            else:
                num_bytes += len(message.get("body", b""))
            await send(message)

        service, start = self._service, perf_counter()
        service.num_requests += 1
        try:
            await self._answer(scope, receive, send_with_headers, lambda: status)
        except ClientDisconnect:
            status = status or CLIENT_LEFT
        finally:
            service.num_requests -= 1
            seconds = perf_counter() - start
            route = scope["path"] if scope["path"] in self._routes else "other"
            method = scope["method"] if route != "other" else "other"
            service.metrics.count_request(route, method, status, seconds)
            client = scope.get("client")
            self._log.add(
                {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "id": request_id,
                    "client": client[0] if client else None,
                    "method": scope["method"][:MAX_LOGGED],
                    "path": scope["path"][:MAX_LOGGED],
                    "status": status,
                    "ms": round(seconds * 1000, 3),
                    "bytes": num_bytes,
                }
            )

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]
    ) -> None:
        limits = self._service.limits
        try:
            self._admit(scope)
            async with asyncio.timeout(limits.request_s):
                response = await self._find(scope)(Request(scope, receive))
                await response(scope, receive, send)
            return
        except ProblemError as error:
            problem = error
        except TimeoutError:
            self._service.metrics.refused.labels("time").inc()
            problem = ProblemError(503, f"no response within {limits.request_s:g} s")
        except ClientDisconnect:
            raise
        except Exception:  # our own fault: the log says what, the client only that
            logger.exception("a request to %s failed", scope["path"][:MAX_LOGGED])
            problem = ProblemError(500, "internal error")
        if status():
            raise problem  # half of a response is sent: the connection must end
        body = problem.body(scope["path"])
        headers = {**problem.headers, "content-length": str(len(body))}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _find(self, scope: Scope) -> Handler:
        method, handler = self._routes.get(scope["path"], ("", None))
        if handler is None:
            raise ProblemError(404, "no such path")
        # uvicorn leaves out the body of a response to HEAD.
        if scope["method"] != method and (scope["method"], method) != ("HEAD", "GET"):
            raise ProblemError(405, f"this path takes {method}", headers={"allow": method})
        return handler

    def _admit(self, scope: Scope) -> None:
        service = self._service
        if scope["path"] in OPEN_PATHS:
            return
        if service.num_requests > service.limits.max_requests:
            service.metrics.refused.labels("requests").inc()
            raise ProblemError(503, "too many requests are in progress")
        if service.key is not None and not _has_key(scope, service.key):
            raise ProblemError(
                401,
                "this needs the server's key: `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                headers={"www-authenticate": 'Bearer realm="lenet"'},
            )
        client = scope.get("client")
        if self._rate is not None and not self._rate.take(client[0] if client else ""):
            service.metrics.refused.labels("rate").inc()
            raise ProblemError(429, f"more than {service.limits.rate:g} requests a second")


def _has_key(scope: Scope, key: bytes) -> bool:
    given = b""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            given = value[7:].strip()
        elif name == b"x-api-key":
            given = value.strip()
    # Takes as long for a key that is nearly right as for any other.
    return hmac.compare_digest(given, key)
