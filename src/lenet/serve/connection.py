"""Limits of size and time for one connection.

uvicorn accepts headers of any length at any speed and waits without end for a response to be
read; subclassing its protocol is the way it offers to change that.
"""

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lenet.serve.problems import ProblemError
from lenet.serve.service import Service

MAX_HEADER_BYTES = 65_536
MAX_PIPELINED = 100
"""Requests of one connection that wait for the response to an earlier one."""
SLICE_BYTES = 16_384
"""Parsed at a time, so that limits are checked before they are exceeded by much."""
LINGER_S = 5.0
"""How long the rest of a refused body is read and discarded: a client that is still sending would
not see the response if its connection were reset."""
LAST_REQUEST_S = 1.0
"""How long a new connection may take to send its request while the server ends."""


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, service: Service, **kwargs: Any) -> None:
        """Apply the limits of a service; uvicorn passes the rest."""
        super().__init__(**kwargs)
        self._service, self._limits = service, service.limits
        self._timer: TimerHandle | None = None
        self._writing_timer: TimerHandle | None = None
        self._header_bytes = 0
        """Received since the parser last reported complete headers, a body or its end: parts of
        headers or of a chunked body's trailers, which the parser keeps in memory."""

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, if there are not too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._service.metrics.refused.labels("connections").inc()
            self._refuse(503, "too many connections are open")
        else:
            self._start(self._limits.header_s, self._end_slow_header)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and limit the time of headers and refused bodies."""
        for start in range(0, len(data), SLICE_BYTES):
            # Too long headers end the connection, at the latest after the responses before.
            if self.transport.is_closing() or self._header_bytes > MAX_HEADER_BYTES:
                return
            self._parse(data[start : start + SLICE_BYTES])

    def _parse(self, data: bytes) -> None:
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._end_long_header()
        elif len(self.pipeline) > MAX_PIPELINED:
            self._refuse(503, f"more than {MAX_PIPELINED} requests wait on this connection")
        elif not self._is_idle:
            self._stop()
        elif self.cycle is not None and self.cycle.more_body:
            self._start(LINGER_S, self.transport.close)
        else:
            self._start(self._limits.header_s, self._end_slow_header)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._header_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body, which has limits of its own."""
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request's body."""
        self._header_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request, unless its headers are too long already."""
        super().on_response_complete()
        if self._header_bytes > MAX_HEADER_BYTES:
            self._end_long_header()

    def shutdown(self) -> None:
        """End as the server ends: at once if idle, but not between a connection and its request."""
        if self._is_idle and (self.cycle is None or self._header_bytes):
            self._stop()
            self._start(LAST_REQUEST_S, self._end_if_idle)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request."""
        self._refuse(400, "not an HTTP request")

    def pause_writing(self) -> None:
        """Wait for a client to read its response, for a limited time."""
        super().pause_writing()
        self._writing_timer = self.loop.call_later(self._limits.body_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer of a slow reader."""
        super().resume_writing()
        if self._writing_timer is not None:
            self._writing_timer.cancel()
            self._writing_timer = None

    def _start(self, seconds: float, end: Callable[[], object]) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, end)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_long_header(self) -> None:
        if self._is_idle or (self.cycle.more_body and not self.cycle.response_started):
            self._refuse(431, f"the headers are longer than {MAX_HEADER_BYTES} bytes")
        else:
            # The request before is in progress and its response comes first.
            self.flow.pause_reading()

    def _end_slow_header(self) -> None:
        if self._header_bytes:
            self._refuse(408, f"the headers did not arrive within {self._limits.header_s:g} s")
        else:
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(ProblemError(status, detail).raw_response())
            self.transport.close()
