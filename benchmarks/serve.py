"""Measure `lenet serve`: its clients, its speed beside others, overload, memory, its end, attacks.

Run: `.venv/bin/python benchmarks/serve.py PART [options]`, where PART is

- clients: the real Triton client and schemathesis (`--clients DIR`, an environment with both)
- load: requests/s beside the same model behind FastAPI and LitServe (`--litserve DIR`, where it
  lies), in turns; needs wrk. `--append` adds rounds to those recorded
- overload: ten times what it can do, and after that
- memory: 200,000 requests and 2,000 pictures
- drain: SIGTERM under load, several times
- hostile: what a server meets on the open Internet

Each part goes into `benchmarks/results/serve.json`, and is printed as one JSON line.
"""

import argparse
import asyncio
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
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from serve_attacks import attack
from serve_load import Outcome, closed_loop, open_loop, percentile, request_of

from lenet import load
from lenet.reader import Reader
from lenet.records import environment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "serve.json"
CONNECTIONS = 64
WRK_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "{kind}"
{header}
local file = io.open("{body}", "rb")
wrk.body = file:read("*all")
file:close()
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """A server in a process group of its own."""

    def __init__(self, command: list[str], port: int, *, path: str, env: dict[str, str]) -> None:
        """Start it and wait until it answers."""
        self.port = port
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115  # until the end
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, env=env, start_new_session=True
        )
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            if self.answers(path):
                return
            time.sleep(0.1)
        raise SystemExit(f"{command} does not answer: {Path(self.log.name).read_text()}")

    def answers(self, path: str) -> bool:
        """Whether a request gets any answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
                return connection.recv(12).startswith(b"HTTP/1.")
        except OSError:
            return False

    def processes(self) -> list[int]:
        """The server's process, then its children."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True
        )
        return [self.process.pid, *map(int, found.stdout.split())]

    def memory_mb(self, field: str = "VmRSS") -> list[float]:
        """Resident memory of each process, now or (VmHWM) at most."""
        sizes = []
        for pid in self.processes():
            text = Path(f"/proc/{pid}/status").read_text()
            found = re.search(rf"{field}:\s+(\d+)", text)
            sizes.append(int(found[1]) / 1024 if found else 0.0)
        return sizes

    def end(self) -> int:
        """Tell it to end; return its status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()
        finally:
            if self.process.poll() is not None:
                with_group_gone(self.process.pid)


def with_group_gone(group: int) -> None:
    """End what a server has left behind."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@contextmanager
def serving(name: str = "lenet", *options: str, litserve: Path | None = None) -> Iterator[Server]:
    """Run a server."""
    port, env = free_port(), dict(os.environ)
    if litserve is not None:
        env["PYTHONPATH"] = str(litserve)
    if name == "lenet":
        command = [sys.executable, "-m", "lenet", "serve", "--port", str(port), *options]
    else:
        script = ROOT / "benchmarks" / f"serve_{name.partition('-')[0]}.py"
        batched = ["--batched"] if name.endswith("batched") else []
        command = [sys.executable, str(script), str(port), *batched]
    server = Server(command, port, path="/health", env=env)
    try:
        yield server
    finally:
        server.end()


def digits() -> tuple[Any, Any]:
    """Return 1,000 test images (1000, 28, 28) uint8 and their labels."""
    found = load("mnist", "test")
    return found.images[:1000].numpy(), found.labels[:1000].numpy()


def json_body(images: Any) -> bytes:
    """Return a request of `/predict`."""
    return json.dumps({"images": images.tolist()}).encode()


def binary_body(images: Any) -> tuple[bytes, str]:
    """Return a request of the Open Inference Protocol and its header."""
    x = (images.astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    tensor: dict[str, Any] = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    return head + x.tobytes(), str(len(head))


def picture() -> bytes:
    """Return a picture of a 7 as a PNG, 300 pixels on a side."""
    import io

    from PIL import Image, ImageDraw

    image = Image.new("RGB", (300, 300), (230, 230, 225))
    points = [(90, 60), (210, 60), (135, 240)]
    ImageDraw.Draw(image).line(points, fill=(20, 20, 30), width=16, joint="curve")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def wrk(
    server: Server, path: str, body: bytes, *, seconds: float, length: str = ""
) -> dict[str, Any]:
    """Run wrk for some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        header = f'wrk.headers["Inference-Header-Content-Length"] = "{length}"' if length else ""
        kind = "application/octet-stream" if length else "application/json"
        script = Path(folder) / "wrk.lua"
        script.write_text(WRK_SCRIPT.format(kind=kind, header=header, body=f"{folder}/body"))
        url = f"http://127.0.0.1:{server.port}{path}"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--timeout", "20s", "--latency"]
        found = subprocess.run(
            ["wrk", *options, "-s", str(script), url], capture_output=True, text=True, check=True
        ).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", found)
    errors = re.search(r"Socket errors: (.*)", found)
    return {
        "requests_per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", found)[1]),  # type: ignore[index]  # always there
        "p50_ms": to_ms(re.search(r"\n +50% +(\S+)", found)[1]),  # type: ignore[index]  # likewise
        "p99_ms": to_ms(re.search(r"\n +99% +(\S+)", found)[1]),  # type: ignore[index]  # likewise
        "num_requests": int(re.search(r"(\d+) requests in", found)[1]),  # type: ignore[index]  # likewise
        "num_failed": int(failed[1]) if failed else 0,
        "errors": errors[1] if errors else "",
    }


def to_ms(text: str) -> float:
    """Return wrk's time in milliseconds."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]  # its own form
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def run_clients(options: argparse.Namespace) -> dict[str, Any]:
    """The real Triton client and schemathesis, against one server."""
    python = options.clients / "bin" / "python"
    script = ROOT / "benchmarks" / "serve_triton.py"
    images, labels = digits()
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "digits.npz", images=images, labels=labels)
        found = subprocess.run(
            [python, script, f"127.0.0.1:{server.port}", f"{folder}/digits.npz"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        triton = json.loads(found.stdout.splitlines()[-1])
        read = Reader.from_pretrained().probabilities(images).argmax(axis=1)
        triton["right_without_server"] = int((read == labels).sum())
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,"
        checks += "response_headers_conformance,response_schema_conformance,unsupported_method"
        command = [options.clients / "bin" / "schemathesis", "run", "--checks", checks]
        command += ["--max-examples", str(options.examples), "--request-timeout", "60"]
        said = subprocess.run(
            [*command, f"http://127.0.0.1:{server.port}/openapi.json"],
            capture_output=True, text=True, cwd=folder,
        )  # fmt: skip
        summary = said.stdout[said.stdout.rfind("SUMMARY") :]
        print(summary[:3000], file=sys.stderr)
        cases = re.search(r"([\d,]+) generated", summary)
        failures = re.search(r"(\d+) unique failures?", summary)
        statuses = count_statuses(server)
    return {
        "triton": triton,
        "schemathesis": {
            "checks": checks.split(","),
            "num_cases": int(cases[1].replace(",", "")) if cases else 0,
            "num_failures": int(failures[1]) if failures else 0,
            "exit_status": said.returncode,
            "statuses": statuses,
        },
    }


def count_statuses(server: Server) -> dict[str, int]:
    """Return how often each status is in a server's log."""
    time.sleep(0.5)
    rows = Path(server.log.name).read_text().splitlines()
    statuses = Counter(json.loads(row)["status"] for row in rows if row.startswith("{"))
    return {str(status): count for status, count in sorted(statuses.items())}


def run_load(options: argparse.Namespace) -> dict[str, Any]:
    """Each server in its turn, started anew, warmed up, then measured."""
    images, _ = digits()
    one = json_body(images[:1])
    binary, length = binary_body(images[:1])
    before = json.loads(RESULTS.read_text()).get("load", {}) if options.append else {}
    rounds: dict[str, list[Any]] = before.get("rounds", {})
    for _ in range(options.rounds):
        for name in ("lenet", "lenet, binary tensors", "fastapi", "litserve", "litserve-batched"):
            if name.startswith("litserve") and options.litserve is None:
                continue
            with serving(name.partition(",")[0], litserve=options.litserve) as server:
                is_binary = name.endswith("tensors")
                path = "/v2/models/lenet5/infer" if is_binary else "/predict"
                body, size = (binary, length) if is_binary else (one, "")
                wrk(server, path, body, seconds=1, length=size)
                found = wrk(server, path, body, seconds=options.seconds, length=size)
            print(name, found, file=sys.stderr)
            rounds.setdefault(name, []).append({**found, "seconds": options.seconds})
    return {
        "connections": CONNECTIONS,
        "rounds": rounds,
        "summary": {
            name: {
                "requests_per_s": median(run["requests_per_s"] for run in runs),
                "p50_ms": median(run["p50_ms"] for run in runs),
                "p99_ms": median(run["p99_ms"] for run in runs),
                "num_failed": sum(run["num_failed"] for run in runs),
                "seconds": sum(run["seconds"] for run in runs),
            }
            for name, runs in rounds.items()
        },
    }


def run_overload(options: argparse.Namespace) -> dict[str, Any]:
    """Pictures, which are slow by nature, and tensors on the slowest engine."""
    images, _ = digits()
    binary, length = binary_body(images[:64])
    found = {}
    for name, arguments, request in (
        ("pictures", (), request_of("/predict", picture(), kind="image/png")),
        (
            "64 images by numpy",
            ("--engine", "numpy"),
            request_of("/v2/models/lenet5/infer", binary, length=length),
        ),
    ):
        with serving("lenet", *arguments) as server:
            asyncio.run(closed_loop(server.port, request, connections=4, seconds=2))
            calm = asyncio.run(closed_loop(server.port, request, connections=4, seconds=8))
            rate = 10 * calm.rate
            storm = asyncio.run(open_loop(server.port, request, rate=rate, seconds=15))
            after = asyncio.run(closed_loop(server.port, request, connections=4, seconds=8))
            found[name] = {
                "before": describe(calm),
                "asked_per_s": rate,
                "storm": describe(storm),
                "after": describe(after),
                "peak_mb": server.memory_mb("VmHWM"),
            }
        print(name, found[name], file=sys.stderr)
    return found


def describe(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome in figures."""
    answered = outcome.latencies.get(200, [])
    refused = outcome.latencies.get(503, [])
    return {
        "seconds": outcome.seconds,
        "statuses": {str(k): len(v) for k, v in sorted(outcome.latencies.items())},
        "num_lost": outcome.num_lost,
        "num_not_connected": outcome.num_not_connected,
        "num_without_retry_after": outcome.num_without_retry_after,
        "answered_per_s": len(answered) / outcome.seconds,
        "p50_ms": percentile(answered, 50),
        "p99_ms": percentile(answered, 99),
        "refused_p50_ms": percentile(refused, 50),
        "refused_p99_ms": percentile(refused, 99),
    }


def run_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory while requests of every kind go through."""
    images, _ = digits()
    one = json_body(images[:1])
    binary, length = binary_body(images[:8])
    samples: list[dict[str, Any]] = []
    done = 0
    pictures = request_of("/predict", picture(), kind="image/png")
    with serving() as server:
        while done < options.requests:
            if samples:
                done += wrk(server, "/predict", one, seconds=4)["num_requests"]
                path = "/v2/models/lenet5/infer"
                done += wrk(server, path, binary, seconds=2, length=length)["num_requests"]
            else:
                wrk(server, "/predict", one, seconds=2)
            outcome = asyncio.run(closed_loop(server.port, pictures, connections=4, seconds=1))
            done += outcome.num_answered
            samples.append({"requests": done, "mb": server.memory_mb()})
            print(samples[-1], file=sys.stderr)
        statuses = count_statuses(server)
    return {"samples": samples, "statuses": statuses}


def run_drain(options: argparse.Namespace) -> dict[str, Any]:
    """SIGTERM under load: every request on an accepted connection must be answered."""
    images, _ = digits()
    request = request_of("/predict", json_body(images[:1]), kind="application/json")
    slow = request_of("/predict", picture(), kind="image/png")
    runs = []
    for number in range(options.times):
        one = slow if number % 2 else request
        with serving() as server:

            async def run(server: Server = server, one: bytes = one) -> Outcome:
                loop = asyncio.get_running_loop()
                loop.call_later(3, server.process.send_signal, signal.SIGTERM)
                return await closed_loop(
                    server.port, one, connections=CONNECTIONS, seconds=60, until_refused=True
                )

            outcome = asyncio.run(run())
            status = server.process.wait(60)
        runs.append({"kind": "pictures" if number % 2 else "pixels", "exit_status": status,
                     **describe(outcome)})  # fmt: skip
        print(runs[-1], file=sys.stderr)
    return {"runs": runs}


def run_hostile(options: argparse.Namespace) -> dict[str, Any]:
    """Attack, and see that the server stays small, answers others and lives."""
    with serving("lenet", "--picture-s", "10") as server:
        good = request_of("/predict", json_body(digits()[0][:1]), kind="application/json")
        found: dict[str, Any] = {"attacks": attack(server.port, good)}
        found["peak_mb"] = server.memory_mb("VmHWM")
        found["is_alive"] = server.answers("/health") and server.process.poll() is None
    return found


PARTS = {
    "clients": run_clients,
    "load": run_load,
    "overload": run_overload,
    "memory": run_memory,
    "drain": run_drain,
    "hostile": run_hostile,
}


def main() -> None:
    """Run a part, record, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--clients", type=Path, default=Path(".clients"))
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--litserve", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=6)
    options = parser.parse_args()
    found = PARTS[options.part](options)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"benchmark": "serve"}
    results[options.part] = found
    results["environment"] = environment()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
