"""What a server meets on the open Internet, for `serve.py`: each attack and what came back."""

import io
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GIGABYTE = 10**9
CHUNK = bytes(2**20)


class _Target:
    """A server under attack."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, timeout: float = 90) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, data: bytes) -> int:
        """Send bytes; return the answer's status, 0 where the connection ends without one."""
        with self.connect() as connection:
            return _send_and_read(connection, data)

    def post(self, path: str, body: bytes, kind: str, **more: str) -> int:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"Content-Type: {kind}"] if kind else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        return self.raw("\r\n".join([*lines, "", ""]).encode() + body)


def _send_and_read(connection: socket.socket, data: bytes) -> int:
    sender = threading.Thread(target=_send, args=(connection, data), daemon=True)
    sender.start()
    return _status(connection)


def _send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the server has had enough
        connection.sendall(data)


def _status(connection: socket.socket) -> int:
    try:
        head = connection.recv(12)
        while head and len(head) < 12:
            head += connection.recv(12 - len(head))
    except OSError:
        return 0
    return int(head[9:12]) if len(head) == 12 else 0


def png_bomb(side: int) -> bytes:
    """Return a PNG of so many pixels on a side, all black, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    row = bytes(1 + side)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    )


def png_text_bomb() -> bytes:
    """Return a small PNG with a comment that unpacks to a gigabyte."""
    buffer = io.BytesIO()
    Image.new("L", (28, 28)).save(buffer, "PNG")
    plain = buffer.getvalue()
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(CHUNK) for _ in range(1000)) + packer.flush()
    body = b"zTXt" + b"Comment\x00\x00" + data
    text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return plain[:33] + text + plain[33:]


def picture(kind: str, size: tuple[int, int], **options: Any) -> bytes:
    """Return a picture of noise."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    values = rng.integers(0, 255, (size[1], size[0]), dtype=np.uint8)
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def tensor(value: float, shape: list[int] | None = None, size: int = 3136) -> tuple[bytes, str]:
    """Return a binary inference request with one value all over."""
    head: dict[str, Any] = {"name": "x", "shape": shape or [1, 1, 28, 28], "datatype": "FP32"}
    head["parameters"] = {"binary_data_size": size}
    text = json.dumps({"inputs": [head]}).encode()
    return text + np.full(784, value, "<f4").tobytes(), str(len(text))


def bodies() -> dict[str, tuple[str, bytes, str, dict[str, str]]]:
    """Return the attacks that are one whole request: path, body, content type, headers."""
    scans = picture("JPEG", (3000, 3000), progressive=True) + b"\xff\xda" * 1000
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nc\r\n'
        for _ in range(20_000)
    )
    fields = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nc\r\n' * 20_000
    plain = {
        "PNG of 30,000 x 30,000 pixels": (png_bomb(30_000), "image/png"),
        "PNG of 8,000 x 8,000, the most that is decoded": (png_bomb(8000), "image/png"),
        "PNG whose comment unpacks to 1 GB": (png_text_bomb(), "image/png"),
        "JPEG in 1,000 scans": (scans, "image/jpeg"),
        "TIFF cut short": (picture("TIFF", (500, 500))[:9000], "image/tiff"),
        "noise as a picture": (np.random.default_rng(0).bytes(10**6), "image/png"),
        "multipart of 20,000 files": (parts + b"--x--", "multipart/form-data; boundary=x"),
        "multipart of 20,000 fields": (fields + b"--x--", "multipart/form-data; boundary=x"),
        "multipart with a header of 10 MB": (
            b"--x\r\nContent-Disposition: " + b"a" * 10**7, "multipart/form-data; boundary=x",
        ),
        "multipart cut short": (parts[:100], "multipart/form-data; boundary=x"),
        "JSON nested 10 million deep": (b"[" * 10**7, "application/json"),
        "JSON of 9 million numbers": (
            b'{"images": [' + b"0," * 9 * 10**6 + b"0]}", "application/json",
        ),
        "JSON number of 10 million digits": (
            b'{"images": [' + b"9" * 10**7 + b"]}", "application/json",
        ),
        "JSON with NaN": (b'{"images": [[[NaN]]]}', "application/json"),
        "JSON that is no UTF-8": (b'{"images": "\xff\xfe"}', "application/json"),
        "picture called text": (picture("PNG", (28, 28)), "text/plain"),
        "picture called JSON": (picture("PNG", (28, 28)), "application/json"),
        "no content type": (picture("PNG", (28, 28)), ""),
    }  # fmt: skip
    found = {
        name: ("/predict", body, kind, dict[str, str]()) for name, (body, kind) in plain.items()
    }
    squeezed = zlib.compress(bytes(10**8))
    found["body of 100 MB, compressed"] = (
        "/predict", squeezed, "application/json", {"Content-Encoding": "gzip"},
    )  # fmt: skip
    infer = "/v2/models/lenet5/infer"
    for name, (body, length) in {
        "tensor of NaN": tensor(np.nan),
        "tensor of infinity": tensor(np.inf),
        "tensor of 255": tensor(255),
        "tensor of shape [1, 1, 28, 29]": tensor(0, [1, 1, 28, 29]),
        "tensor of shape [-1, 1, 28, 28]": tensor(0, [-1, 1, 28, 28]),
        "tensor of shape [2, 1, 28, 28] with one image": tensor(0, [2, 1, 28, 28]),
        "tensor of shape [10^18, 1, 28, 28]": tensor(0, [10**18, 1, 28, 28]),
        "tensor of a size that is not there": tensor(0, size=10**12),
        "binary length beyond the body": (tensor(0)[0], str(10**11)),
        "binary length of 100 digits": (tensor(0)[0], "9" * 100),
    }.items():
        header = {"Inference-Header-Content-Length": length}
        found[name] = (infer, body, "application/octet-stream", header)
    return found


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def lines() -> dict[str, bytes]:
    """Return the attacks on HTTP itself."""
    return {
        "random bytes": np.random.default_rng(1).bytes(1000),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "path of 1 MB": b"GET /" + b"a" * 10**6 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "header of 10 MB": b"GET / HTTP/1.1\r\nX: " + b"a" * 10**7,
        "100,000 headers": b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100_000,
        "content length -1": HEAD + b"Content-Length: -1\r\n\r\n",
        "two content lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "chunked and a content length": HEAD
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "content length of 10^30": HEAD + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n",
        "chunk of 2^80 bytes": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1" + b"0" * 20 + b"\r\n",
        "path with a NUL": b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        "path above the root": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        "body promised and not sent": HEAD + b"Content-Length: 100\r\n\r\n",
        "headers begun and not ended": b"GET / HTTP/1.1\r\nHost: x\r\n",
    }


def gigabyte(target: _Target, *, chunked: bool) -> int:
    """Send a body of 1 GB, as far as the server takes it."""
    with target.connect() as connection:
        if chunked:
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            part, count = b"%x\r\n" % len(CHUNK) + CHUNK + b"\r\n", GIGABYTE // len(CHUNK)
        else:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % GIGABYTE)
            part, count = CHUNK, GIGABYTE // len(CHUNK)

        def send() -> None:
            with suppress(OSError):
                for _ in range(count):
                    connection.sendall(part)

        threading.Thread(target=send, daemon=True).start()
        return _status(connection)


def pipelined_headers(target: _Target) -> int:
    """Send 100 MB of headers of a second request while the first, a large picture, is in work."""
    body = png_bomb(8000)
    first = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return target.raw(first + b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * (10**8 // 6))


def trailers(target: _Target) -> int:
    """Send 100 MB of trailers after a chunked body."""
    start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    return target.raw(start + b"X: a\r\n" * (10**8 // 6))


def pipelined_requests(target: _Target) -> dict[int, int]:
    """Send a million small requests on each of 8 connections, each without waiting."""
    data = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 10**6
    with ThreadPoolExecutor(8) as pool:
        return dict(Counter(pool.map(target.raw, [data] * 8)))


def drip(target: _Target, start: bytes, connections: int, seconds: float) -> dict[int, int]:
    """Hold connections with a byte a second each; return the statuses they end with."""
    open_ones = [target.connect() for _ in range(connections)]
    for connection in open_ones:
        connection.sendall(start)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for connection in open_ones:
            _send(connection, b"a")
        time.sleep(1)
    statuses: dict[int, int] = {}
    for connection in open_ones:
        connection.settimeout(1)
        status = _status(connection)
        statuses[status] = statuses.get(status, 0) + 1
        connection.close()
    return statuses


def memory_of(pid: int, field: str = "VmRSS") -> float:
    """Memory of a process in MB, now or (VmHWM) at most."""
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def while_asked(
    target: _Target, good: bytes, attack: Callable[[], Any], server: int
) -> dict[str, Any]:
    """Attack while a well-behaved client goes on; return what became of both."""
    ended = threading.Event()
    seconds: list[float] = []
    statuses: list[int] = []
    before_mb = memory_of(server)
    Path(f"/proc/{server}/clear_refs").write_text("5")  # the peak begins anew

    def ask() -> None:
        while not ended.is_set():
            start = time.perf_counter()
            statuses.append(target.raw(good))
            seconds.append(time.perf_counter() - start)
            time.sleep(0.02)

    client = threading.Thread(target=ask)
    client.start()
    start = time.perf_counter()
    result = attack()
    took = time.perf_counter() - start
    ended.set()
    client.join()
    return {
        "result": result,
        "seconds": took,
        "server_mb": {"before": before_mb, "peak": memory_of(server, "VmHWM")},
        "others": {
            "asked": len(statuses),
            "answered": statuses.count(200),
            "slowest_ms": 1000 * max(seconds),
        },
    }


def attack(port: int, good: bytes, server: int) -> dict[str, Any]:
    """Attack in every way; return what became of each, and of a good client meanwhile.

    Args:
        port: Of the server.
        good: A request that must be answered all the while.
        server: Its process.
    """
    target = _Target(port)
    jobs: dict[str, Callable[[], Any]] = {
        name: partial(target.post, path, body, kind, **headers)
        for name, (path, body, kind, headers) in bodies().items()
    }
    jobs |= {name: partial(target.raw, data) for name, data in lines().items()}
    jobs["body of 1 GB"] = partial(gigabyte, target, chunked=False)
    jobs["body of 1 GB in chunks"] = partial(gigabyte, target, chunked=True)
    jobs["100 MB of headers behind a request in work"] = partial(pipelined_headers, target)
    jobs["100 MB of trailers of a chunked body"] = partial(trailers, target)
    jobs["8 million pipelined requests"] = partial(pipelined_requests, target)
    jobs["500 connections that drip headers"] = partial(drip, target, HEAD + b"X: ", 500, 14)
    begun = HEAD + b"Content-Length: 1000000\r\n\r\n"
    jobs["200 connections that drip bodies"] = partial(drip, target, begun, 200, 35)
    return {name: while_asked(target, good, job, server) for name, job in jobs.items()}
