"""What a server and its workers send each other: a JSON object and bytes.

No pickles: a worker decodes strangers' pictures, and what it says is not trusted to run.
"""

import json
import struct
from typing import Any, BinaryIO

LENGTHS = struct.Struct("<II")
MAX_HEADER_BYTES = 2**20


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """Return a frame."""
    head = json.dumps(header).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


def write_frame(stream: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    """Write a frame."""
    stream.write(pack(header, body))
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Return the next frame; None at the end of the stream."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head_size, body_size = LENGTHS.unpack(lengths)
    head, body = stream.read(head_size), stream.read(body_size)
    if len(head) < head_size or len(body) < body_size:
        return None
    return json.loads(head), body
