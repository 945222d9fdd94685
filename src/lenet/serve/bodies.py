"""Request bodies, read whole within limits of size, time and memory; JSON responses."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lenet.serve.problems import ProblemError
from lenet.serve.service import Service

MAX_INLINE_JSON = 32_768
"""Bytes of JSON that are parsed on the event loop, in some 0.2 ms; a worker parses longer ones."""
CHUNK_BYTES = 2**18
MAX_NAME = 100


@asynccontextmanager
async def held_body(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Yield a request's body, which counts towards the memory limit until the block ends.

    Raises:
        ProblemError: 413 too large, 408 too slow, 415 compressed, 503 too much memory in use.
        ClientDisconnect: The client is gone.
    """
    limits, held = service.limits, 0

    def hold(size: int) -> None:
        nonlocal held
        if size > limits.max_body_bytes:
            raise ProblemError(413, f"the body is larger than {limits.max_body_bytes:,} bytes")
        if size > held:
            if service.held_bytes + size - held > limits.max_held_bytes:
                service.metrics.refused.labels("memory").inc()
                raise ProblemError(503, "too many large requests are in progress")
            service.held_bytes += size - held
            held = size

    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ProblemError(
            415, "compressed bodies are not accepted", headers={"accept-encoding": "identity"}
        )
    parts: list[bytes] = []
    size = 0
    try:
        hold(int(request.headers.get("content-length", "0")))  # the parser lets digits alone pass
        async with asyncio.timeout(limits.body_s):
            is_whole = False
            while not is_whole:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                hold(size)
                is_whole = not message.get("more_body", False)
        yield b"".join(parts)
    except TimeoutError:
        raise ProblemError(
            408,
            f"the body did not arrive within {limits.body_s:g} s",
            headers={"connection": "close"},
        ) from None
    finally:
        service.held_bytes -= held


async def parse_files(
    body: bytes, request: Request, *, max_pictures: int
) -> list[tuple[str, bytes]]:
    """Return the name and bytes of each file in a multipart body.

    Raises:
        ProblemError: 400 if it is malformed, 413 for too many files, 422 for none.
    """
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise ProblemError(400, "`content-type` has no boundary")

    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), CHUNK_BYTES):
            yield body[start : start + CHUNK_BYTES]
            await asyncio.sleep(0)

    parser = MultiPartParser(request.headers, chunks(), max_files=max_pictures, max_fields=16)
    parser.spool_max_size = len(body) + 1  # in memory, where the body is already
    try:
        form = await parser.parse()
    except MultiPartException as error:
        is_many = error.message.startswith("Too many files")
        raise ProblemError(413 if is_many else 400, error.message) from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise ProblemError(422, "the body has no file; `curl -F picture=@7.png` sends one")
        return [((file.filename or "")[:MAX_NAME], await file.read()) for file in files]
    finally:
        await form.close()


def json_response(value: Any) -> Response:
    """Return a response of plain values."""
    return Response(msgspec.json.encode(value), media_type="application/json")
