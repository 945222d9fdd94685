"""Measure `lenet serve`: its clients, its speed beside others, overload, memory, its end.

Run: `.venv/bin/python benchmarks/serve.py PART [--record]`, where PART is

- clients: the real Triton client and schemathesis; `--environment DIR` has both installed
- load: requests/s beside the same model behind FastAPI and LitServe, in turns, each server started
  anew; `--peers DIR` is where both are installed; needs wrk
- overload: ten times what it can do, and after that
- memory: 200,000 requests, some of them with pictures; needs wrk
- drain: SIGTERM under load, several times

Clients and servers share the machine's cores.
"""

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import LENET, ROOT, in_turns, main, report
from PIL import Image, ImageDraw
from serve_load import Outcome, closed_loop, open_loop, request_of

import lenet
from lenet.reading.reader import Reader

CONNECTIONS = 64
TRITON = ROOT / "benchmarks" / "serve_triton.py"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,unsupported_method"
)
INFER = "/v2/models/lenet5/infer"
# Prints its figures as JSON.
WRK_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "{kind}"
{header}
wrk.body = io.open("{body}", "rb"):read("*all")
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format('\\n{{"num_requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, ' ..
    '"num_failed": %d}}', summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Server:
    """A running server, the leader of a process group."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def responds(self) -> bool:
        """Whether a request gets any response."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n")
                return connection.recv(12).startswith(b"HTTP/1.")
        except OSError:
            return False

    def memory_mb(self, field: str = "VmRSS") -> list[float]:
        """Memory of the server's process and of its children, now or (VmHWM) at most."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [_memory_of(each, field) for each in (pid, *map(int, children))]

    def statuses(self) -> dict[str, int]:
        """How often each status is in the log."""
        time.sleep(0.5)
        rows = self.log.read_text().splitlines()
        found = Counter(json.loads(row)["status"] for row in rows if row.startswith("{"))
        return {str(status): count for status, count in sorted(found.items())}


@contextmanager
def serving(*options: str, peer: str = "", packages: Path | None = None) -> Iterator[Server]:
    """Run `lenet serve` with options, or a server to compare with."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    command = [*LENET, "serve", "--port", str(port), *options]
    if peer:
        name, _, batched = peer.partition("-")
        script = ROOT / "benchmarks" / f"serve_{name}.py"
        command = [sys.executable, str(script), str(port), *(["--batched"] if batched else [])]
    env = {**os.environ, "PYTHONPATH": str(packages.absolute())} if packages else None
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        server = Server(port, process, Path(log.name))
        try:
            end = time.monotonic() + 120
            while not server.responds():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command} does not respond: {server.log.read_text()}")
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def digits() -> tuple[Any, Any]:
    """Return 1,000 test images (1000, 28, 28) uint8 and their labels."""
    found = lenet.load("mnist", "test")
    return found.images[:1000].numpy(), found.labels[:1000].numpy()


def json_body() -> bytes:
    """Return the body of a request to `/predict` with one image."""
    return json.dumps({"images": digits()[0][:1].tolist()}).encode()


def binary_body(num_images: int) -> tuple[bytes, str]:
    """Return the body of a request of the Open Inference Protocol, and its header's length."""
    x = (digits()[0][:num_images].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    tensor: dict[str, Any] = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    return head + x.tobytes(), str(len(head))


def picture_request() -> bytes:
    """Return a request to `/predict` with a 7 as a PNG, 300 pixels on a side."""
    image = Image.new("RGB", (300, 300), (230, 230, 225))
    points = [(90, 60), (210, 60), (135, 240)]
    ImageDraw.Draw(image).line(points, fill=(20, 20, 30), width=16, joint="curve")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return request_of("/predict", buffer.getvalue(), kind="image/png")


def _memory_of(pid: int, field: str) -> float:
    """Return a field of a process's memory, in MB."""
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def wrk(server: Server, body: bytes, *, seconds: float, length: str = "") -> dict[str, Any]:
    """Keep connections busy with JSON, or with tensors if the length of their header is given."""
    with tempfile.TemporaryDirectory() as folder:
        path, script = Path(folder) / "body", Path(folder) / "wrk.lua"
        path.write_bytes(body)
        header = f'wrk.headers["Inference-Header-Content-Length"] = "{length}"' if length else ""
        kind = "application/octet-stream" if length else "application/json"
        script.write_text(WRK_SCRIPT.format(kind=kind, header=header, body=path))
        url = f"http://127.0.0.1:{server.port}{INFER if length else '/predict'}"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--timeout", "20s"]
        command = ["wrk", *options, "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "requests_per_s": found["num_requests"] / found["seconds"]}


def clients(environment: Path = Path(".clients"), examples: int = 200) -> dict[str, Any]:
    """Send requests by the real Triton client and by schemathesis, to one server."""
    images, labels = digits()
    programs = environment.absolute() / "bin"
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{server.port}"
        np.savez(Path(folder) / "digits.npz", images=images, labels=labels)
        triton = subprocess.run(
            [programs / "python", TRITON, address, f"{folder}/digits.npz"],
            stdout=subprocess.PIPE,
            check=True,
        )
        read = Reader.from_pretrained().probabilities(images).argmax(axis=1)
        schemathesis = subprocess.run(
            [
                *(programs / "schemathesis", "run", f"http://{address}/openapi.json"),
                *("--checks", CHECKS, "--max-examples", str(examples), "--request-timeout", "60"),
            ],
            capture_output=True,
            text=True,
            cwd=folder,
        )
        statuses = server.statuses()
    summary = schemathesis.stdout[schemathesis.stdout.rfind("SUMMARY") :]
    report(summary[:3000])
    cases = re.search(r"([\d,]+) generated", summary)
    failures = re.search(r"(\d+) unique failures?", summary)
    right = int((read == labels).sum())
    return {
        "triton": {**json.loads(triton.stdout), "right_without_server": right},
        "schemathesis": {
            "checks": CHECKS.split(","),
            "num_cases": int(cases[1].replace(",", "")) if cases else 0,
            "num_failures": int(failures[1]) if failures else 0,
            "exit_status": schemathesis.returncode,
            "statuses": statuses,
        },
    }


def load(peers: Path | None = None, rounds: int = 6, seconds: float = 10) -> dict[str, Any]:
    """Measure each server in its turn, started anew and warmed up."""

    def measure(peer: str, body: bytes, length: str) -> dict[str, Any]:
        with serving(peer=peer, packages=peers if peer else None) as server:
            wrk(server, body, seconds=1, length=length)
            return wrk(server, body, seconds=seconds, length=length)

    ways = {"lenet": partial(measure, "", json_body(), "")}
    ways["lenet, binary tensors"] = partial(measure, "", *binary_body(1))
    if peers:
        for name in ("fastapi", "litserve", "litserve-batched"):
            ways[name] = partial(measure, name, json_body(), "")
    found = in_turns(ways, rounds)
    summary = {
        name: {
            **{
                key: median(run[key] for run in runs)
                for key in ("requests_per_s", "p50_ms", "p99_ms")
            },
            "num_failed": sum(run["num_failed"] for run in runs),
        }
        for name, runs in found.items()
    }
    return {"connections": CONNECTIONS, "rounds": found, "summary": summary}


def overload() -> dict[str, Any]:
    """Send pictures, which are slow by nature, and tensors to the slowest engine."""
    binary, length = binary_body(64)
    found = {}
    for name, options, request in (
        ("pictures", (), picture_request()),
        ("64 images by numpy", ("--engine", "numpy"), request_of(INFER, binary, length=length)),
    ):
        with serving(*options) as server:
            calmly = partial(closed_loop, server.port, request, connections=4)
            asyncio.run(calmly(seconds=2))
            before = asyncio.run(calmly(seconds=8))
            rate = 10 * before.rate
            storm = asyncio.run(open_loop(server.port, request, rate=rate, seconds=15))
            after = asyncio.run(calmly(seconds=8))
            found[name] = {
                "before": before.figures(),
                "asked_per_s": rate,
                "storm": storm.figures(),
                "after": after.figures(),
                "peak_mb": server.memory_mb("VmHWM"),
            }
        report(name, found[name])
    return found


def memory(requests: int = 200_000) -> dict[str, Any]:
    """Sample the memory while requests of every kind go through."""
    binary, length = binary_body(8)
    samples: list[dict[str, Any]] = []
    num_done = 0
    with serving() as server:
        while num_done < requests:
            if samples:
                num_done += wrk(server, json_body(), seconds=4)["num_requests"]
                num_done += wrk(server, binary, seconds=2, length=length)["num_requests"]
            else:
                wrk(server, json_body(), seconds=2)
            pictures = closed_loop(server.port, picture_request(), connections=4, seconds=1)
            num_done += asyncio.run(pictures).num_answered
            samples.append({"requests": num_done, "mb": server.memory_mb()})
            report(samples[-1])
        statuses = server.statuses()
    return {"samples": samples, "statuses": statuses}


def drain(times: int = 6) -> dict[str, Any]:
    """Send SIGTERM under load: every request on an accepted connection must be answered."""
    requests = {"pixels": request_of("/predict", json_body(), kind="application/json")}
    requests["pictures"] = picture_request()
    runs = []
    for kind in (*requests,) * (times // 2):
        with serving() as server:

            async def run(server: Server = server, request: bytes = requests[kind]) -> Outcome:
                asyncio.get_running_loop().call_later(3, server.process.terminate)
                return await closed_loop(
                    server.port, request, connections=CONNECTIONS, seconds=60, until_refused=True
                )

            figures = asyncio.run(run()).figures()
            runs.append({"kind": kind, "exit_status": server.process.wait(60), **figures})
        report(runs[-1])
    return {"runs": runs}


if __name__ == "__main__":
    main("serve", clients, load, overload, memory, drain)
