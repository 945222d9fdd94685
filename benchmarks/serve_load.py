"""A load of requests by hand, for `serve.py`: every request's fate is known."""

import asyncio
import re
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

TIMEOUT_S = 60.0


@dataclass
class Outcome:
    """What became of requests."""

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)
    """Seconds to the end of the answer, by status."""
    num_lost: int = 0
    """Sent on a connection that had been made, and not answered whole."""
    num_not_connected: int = 0
    """Attempts to connect that were refused: nothing was accepted."""
    num_without_retry_after: int = 0
    """Answers of 503 or 429 that do not say when to come again."""

    @property
    def num_answered(self) -> int:
        """Whole answers of any status."""
        return sum(map(len, self.latencies.values()))

    @property
    def rate(self) -> float:
        """Successes a second."""
        return len(self.latencies.get(200, [])) / self.seconds

    def figures(self) -> dict[str, Any]:
        """All of it in plain values."""
        answered, refused = self.latencies.get(200, []), self.latencies.get(503, [])
        return {
            "seconds": self.seconds,
            "statuses": {str(k): len(v) for k, v in sorted(self.latencies.items())},
            "num_lost": self.num_lost,
            "num_not_connected": self.num_not_connected,
            "num_without_retry_after": self.num_without_retry_after,
            "answered_per_s": len(answered) / self.seconds,
            "p50_ms": percentile(answered, 50),
            "p99_ms": percentile(answered, 99),
            "refused_p50_ms": percentile(refused, 50),
            "refused_p99_ms": percentile(refused, 99),
        }


def request_of(path: str, body: bytes, *, kind: str = "", length: str = "") -> bytes:
    """Return an HTTP request."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if length:
        lines.append(f"Inference-Header-Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def percentile(values: list[float], share: float) -> float | None:
    """Return a percentile in milliseconds."""
    if not values:
        return None
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


class _Client:
    """A connection that is made anew when it ends."""

    def __init__(self, port: int, request: bytes, outcome: Outcome) -> None:
        self._port, self._request, self._outcome = port, request, outcome
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> bool:
        """Send a request and wait for its answer; False where no connection could be made."""
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self._outcome.num_not_connected += 1
                return False
        reader, writer = self._streams
        start = perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"\r\ncontent-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self._outcome.num_lost += 1
            self.close()
            return True
        status = int(head[9:12])
        self._outcome.latencies.setdefault(status, []).append(perf_counter() - start)
        if status in (429, 503) and b"retry-after:" not in head:
            self._outcome.num_without_retry_after += 1
        if b"connection: close" in head:
            self.close()
        return True

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed_loop(
    port: int, request: bytes, *, connections: int, seconds: float, until_refused: bool = False
) -> Outcome:
    """Keep connections busy: each sends its next request when it has its answer."""
    outcome = Outcome()
    start = perf_counter()

    async def work() -> None:
        client = _Client(port, request, outcome)
        while perf_counter() - start < seconds:
            if not await client.ask() and until_refused:
                break
        client.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    outcome.seconds = perf_counter() - start
    return outcome


async def open_loop(port: int, request: bytes, *, rate: float, seconds: float) -> Outcome:
    """Send so many requests a second, whatever becomes of those before."""
    outcome = Outcome()
    idle: list[_Client] = []
    tasks: set[asyncio.Task[None]] = set()
    start = perf_counter()

    async def work() -> None:
        client = idle.pop() if idle else _Client(port, request, outcome)
        await client.ask()
        idle.append(client)

    sent = 0
    while (now := perf_counter() - start) < seconds:
        while sent < now * rate:
            task = asyncio.create_task(work())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(0.002)
    outcome.seconds = perf_counter() - start
    await asyncio.gather(*tasks)
    for client in idle:
        client.close()
    return outcome
