"""Bodies of requests, read whole within limits of size, time and memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from lenet.serve.problems import ProblemError
from lenet.serve.service import RETRY_AFTER_S, Service
from lenet.serve.settings import Limits

CHUNK_BYTES = 2**18
MAX_NAME = 100


@asynccontextmanager
async def held_body(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Yield a request's body; while the block runs, it counts as held.

    Raises:
        ProblemError: 413 too large, 408 too slow, 415 compressed, 400 a length that is none, 503
            when all bodies together take too much memory.
        ClientDisconnect: Nobody waits for the answer.
    """
    held = _Held(service)
    try:
        held.grow_to(_announced(request, service.limits.max_body_bytes))
        yield await _receive(request, held, service.limits)
    finally:
        held.grow_to(0)


class _Held:
    """A request's share of the memory for bodies."""

    def __init__(self, service: Service) -> None:
        self._service, self._size = service, 0

    def grow_to(self, size: int) -> None:
        service = self._service
        if size > self._size:
            if service.held_bytes + size - self._size > service.limits.max_held_bytes:
                service.metrics.refused.labels("memory").inc()
                raise ProblemError(
                    503, "too many large requests are in work", retry_after_s=RETRY_AFTER_S
                )
        elif size:
            return
        service.held_bytes += size - self._size
        self._size = size


async def _receive(request: Request, held: _Held, limits: Limits) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part: bytes = message.get("body", b"")
                parts.append(part)
                size += len(part)
                if size > limits.max_body_bytes:
                    raise _too_large(limits.max_body_bytes)
                held.grow_to(size)
                if not message.get("more_body"):
                    return part if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise ProblemError(
            408,
            f"the body did not arrive within {limits.body_s:g} s",
            headers={"connection": "close"},
        ) from None


def _announced(request: Request, most: int) -> int:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ProblemError(
            415,
            "bodies are taken as they are, not compressed",
            headers={"accept-encoding": "identity"},
        )
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise ProblemError(400, "`content-length` is no number")
    if len(length) > 15 or int(length) > most:
        raise _too_large(most)
    return int(length)


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, f"the body is larger than {most:,} bytes")


async def parse_parts(
    body: bytes, request: Request, *, max_pictures: int
) -> list[tuple[str, bytes]]:
    """Return the name and bytes of each file of a multipart body.

    Raises:
        ProblemError: 400 if it can't be taken apart, 413 for too many files, 422 for none.
    """
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise ProblemError(400, "`content-type` names no boundary")

    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), CHUNK_BYTES):
            yield body[start : start + CHUNK_BYTES]
            await asyncio.sleep(0)

    parser = MultiPartParser(request.headers, chunks(), max_files=max_pictures, max_fields=16)
    parser.spool_max_size = len(body) + 1  # in memory: the body is there already
    try:
        form = await parser.parse()
    except MultiPartException as error:
        is_many = error.message.startswith("Too many files")
        raise ProblemError(413 if is_many else 400, error.message) from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise ProblemError(
                422, "no part of the body is a file; curl's -F picture=@7.png is one"
            )
        return [((file.filename or "")[:MAX_NAME], await file.read()) for file in files]
    finally:
        await form.close()
