"""The parts of the server, each by itself, and its process from start to end."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from lenet.cli import main as cli
from lenet.errors import LeNetError
from lenet.reading.inference import read_network
from lenet.reading.reader import Reader
from lenet.serve import worker, workers
from lenet.serve.batcher import Batcher
from lenet.serve.classifier import ENGINES, load_classifier
from lenet.serve.guard import AccessLog, RateLimit
from lenet.serve.problems import ProblemError
from lenet.serve.server import listen, url_of
from lenet.serve.settings import Limits, read_key
from lenet.serve.workers import WorkerPool

MODEL = Path(__file__).parent.parent / "src" / "lenet" / "pretrained" / "robust.safetensors"
Floats = np.ndarray[Any, Any]


def sums(x: Floats) -> Floats:
    """A network that anyone can check."""
    return np.stack([x.sum(axis=(1, 2)), x[:, 0, 0]], axis=1)


def some(num: int, seed: int) -> Floats:
    return np.random.default_rng(seed).random((num, 28, 28)).astype(np.float32)


# Batches


@pytest.mark.parametrize("max_inline", [0, 64, 10_000])
def test_each_request_gets_its_own_part_of_a_batch(max_inline: int) -> None:
    sizes: list[int] = []
    requests = [some(num, seed) for seed, num in enumerate([1, 5, 300, 1, 255, 2, 40])]

    async def run() -> list[Floats]:
        batcher = Batcher(sums, on_batch=lambda num, seconds: sizes.append(num))
        batcher.max_inline = max_inline
        found = await asyncio.gather(*map(batcher.infer, requests))
        assert batcher.num_waiting == 0
        batcher.close()
        return list(found)

    for x, y in zip(requests, asyncio.run(run()), strict=True):
        np.testing.assert_array_equal(y, sums(x))
    assert sizes == [6, 300, 256, 42]


def test_a_batch_that_fails_fails_for_its_requests_alone() -> None:
    def fail(x: Floats) -> Floats:
        if (x == 2).any():
            raise RuntimeError("two")
        return sums(x)

    async def run() -> list[Any]:
        batcher = Batcher(fail)
        both = await asyncio.gather(
            batcher.infer(some(300, 0)),
            batcher.infer(np.full((1, 28, 28), 2, np.float32)),
            return_exceptions=True,
        )
        again = await batcher.infer(some(1, 1))
        batcher.close()
        return [*both, again]

    good, bad, again = asyncio.run(run())
    assert good.shape == (300, 2)
    assert isinstance(bad, RuntimeError)
    assert again.shape == (1, 2)


def test_a_request_given_up_is_not_computed() -> None:
    sizes: list[int] = []

    async def run() -> None:
        batcher = Batcher(sums, on_batch=lambda num, seconds: sizes.append(num))
        tasks = [asyncio.create_task(batcher.infer(some(num, num))) for num in (3, 4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await tasks[1]
        batcher.close()

    asyncio.run(run())
    assert sizes == [4]


def test_images_above_the_number_that_may_wait_are_refused() -> None:
    def slow(x: Floats) -> Floats:
        time.sleep(0.002 * len(x))
        return sums(x)

    async def run() -> list[Any]:
        batcher = Batcher(slow, max_waiting=40)
        assert batcher.max_inline == 0
        jobs = (batcher.infer(some(30, seed)) for seed in range(4))
        found = await asyncio.gather(*jobs, return_exceptions=True)
        batcher.close()
        return found

    found = asyncio.run(run())
    assert [isinstance(value, ProblemError) for value in found] == [False, False, True, True]
    assert found[3].status == 503
    assert found[3].headers["retry-after"] == "1"


# Workers


def job(name: str, body: bytes, **options: Any) -> bytes:
    """A job as a worker gets it."""
    return json.dumps({"job": name, "num_bytes": len(body), **options}).encode() + b"\n" + body


def answers_of(*jobs: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """What a worker with two classes answers: b is three times as likely as a."""
    reader = Reader(
        lambda images: np.tile(np.array([0, np.log(3)], np.float32), (len(images), 1)), "ab"
    )
    answers = io.BytesIO()
    worker.run(reader, io.BytesIO(b"".join(jobs)), answers)
    answers.seek(0)
    found = []
    for line in answers:
        answer = json.loads(line)
        found.append((answer, answers.read(answer.pop("num_bytes"))))
    return found[1:]  # the first says that it is ready


PAGE = np.full((100, 100), 240, np.uint8)
PAGE[20:80, 45:55] = 10


def test_a_worker_reads() -> None:
    ((answer, _),) = answers_of(job("digit", PAGE.tobytes(), reject=0.0, shape=[100, 100]))
    digit = answer["value"]
    assert (digit["label"], digit["status"]) == ("b", "read")
    assert digit["probability"] == pytest.approx(0.75)


def test_a_worker_answers_errors_and_goes_on() -> None:
    limits = {"max_images": 2, "max_pictures": 2}
    found = answers_of(
        job("digit", b"not a picture", reject=0.0),
        job("pixels", b"{}", limits=limits),
        job("pixels", b'{"pictures": [[[1, 2]]]}', limits=limits),
        job("tensors", b"[]", limits={"max_images": 1}, header_length=None),
    )
    assert [answer.get("problem", [None])[0] for answer, _ in found] == [422, 422, None, 400]
    assert found[2] == ({"value": {"kind": "pictures", "shapes": [[1, 2]]}}, b"\x01\x02")


STAND_INS = {
    "stalls": "time.sleep(60)",
    "crashes": "sys.exit(1)",
    "talks nonsense": "os.write(1, b'\\xff' * 100 + b'\\n'); time.sleep(60)",
    "names no value": "os.write(1, b'{\"num_bytes\": 0}\\n'); time.sleep(60)",
    "claims too many bytes": 'os.write(1, b\'{"value": 1, "num_bytes": 1e99}\\n\'); time.sleep(60)',
}


@pytest.mark.parametrize("fault", STAND_INS)
def test_a_worker_that_fails_is_replaced_and_others_are_served(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in fails at its first job; the real worker takes its place."""
    marker = tmp_path / "marker"
    script = tmp_path / "stand_in.py"
    script.write_text(
        "import os, sys, time\n"
        f"if os.path.exists({str(marker)!r}):\n"
        "    from lenet.serve.worker import main\n    main()\n    sys.exit()\n"
        f"open({str(marker)!r}, 'w').close()\n"
        'os.write(1, b\'{"value": 1, "num_bytes": 0}\\n\')\n'
        "sys.stdin.buffer.readline()\n" + STAND_INS[fault]
    )
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(script)))
    page = np.full((60, 60), 240, np.uint8)
    blank = {"job": "digit", "reject": 0.0, "shape": [60, 60]}

    async def run() -> tuple[ProblemError, Any, int]:
        limit_s = 1 if fault == "stalls" else 20
        pool = WorkerPool(1, MODEL, limit_s=limit_s, max_waiting=1)
        async with pool.running():
            first = asyncio.create_task(pool.run(blank, page.tobytes()))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(pool.run(blank, page.tobytes()))
            await asyncio.sleep(0.05)
            if fault == "stalls":
                with pytest.raises(ProblemError, match="too many"):
                    pool.require_room()
            with pytest.raises(ProblemError) as failed:
                await first
            pool._limit_s = 20
            value, _ = await second
            return failed.value, value, pool.num_ended

    problem, value, num_ended = asyncio.run(run())
    assert problem.status == 422
    assert value["status"] == "empty"
    assert num_ended == 1


# Small parts


def test_a_rate_allows_a_burst_and_then_so_many_a_second() -> None:
    now = [0.0]
    limit = RateLimit(2.0, clock=lambda: now[0])
    assert [limit.take("a") for _ in range(11)] == [True] * 10 + [False]
    assert limit.take("b")
    now[0] = 0.5
    assert [limit.take("a") for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [limit.take("a") for _ in range(11)] == [True] * 10 + [False]


def test_a_log_that_nobody_reads_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lenet.serve.guard.MAX_LINES", 2)
    opened = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            opened.wait(10)
            return super().write(text)

    stream = Stuck()
    log = AccessLog(stream)
    for number in range(3):
        log.add({"id": number})
    assert log.num_lost == 1
    opened.set()
    log.close()
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert rows == [{"id": 0}, {"id": 1}]


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef\n")
    assert read_key(path, "another-key-of-17") == b"0123456789abcdef"
    assert read_key(None, "another-key-of-17") == b"another-key-of-17"
    assert read_key(None, None) is None
    for bad in ("", "short", "0123456789 abcdef", "0123456789abcde\u00e9"):
        with pytest.raises(LeNetError, match="16 printable"):
            read_key(None, bad)
    with pytest.raises(LeNetError, match="can't be read"):
        read_key(tmp_path / "none", None)


def test_an_empty_key_names_its_variable() -> None:
    with pytest.raises(LeNetError, match="LENET_API_KEY"):
        read_key(None, "")


PEEK = """\
import os, resource, socket
from lenet.serve import worker

def attempt(function, *arguments):
    try:
        function(*arguments)
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "done"

def peek(reader, job, body):
    return {
        "environment": sorted(os.environ),
        "file": attempt(open, job["file"]),
        "server": attempt(open, f"/proc/{os.getppid()}/environ"),
        "socket": attempt(socket.socket),
        "limit": attempt(resource.setrlimit, resource.RLIMIT_NOFILE, (100, 100)),
    }, b""

worker.JOBS["peek"] = peek
worker.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these limits")
def test_a_worker_has_no_key_no_files_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "peek.py"
    script.write_text(PEEK)
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(script)))
    monkeypatch.setenv("LENET_API_KEY", "0123456789abcdef")

    async def run() -> Any:
        pool = WorkerPool(1, MODEL, limit_s=20)
        async with pool.running():
            return (await pool.run({"job": "peek", "file": str(script)}, b""))[0]

    found = asyncio.run(run())
    # Python itself sets LC_CTYPE where there is no locale.
    names = set(found.pop("environment")) - {"LC_CTYPE"}
    assert names == {"OPENBLAS_NUM_THREADS", "PYTHONPATH"}
    assert {found[name] for name in ("file", "server", "socket")} == {"OSError"}
    # Root may raise its limits where there are no user namespaces.
    permitted = subprocess.run(["unshare", "-Un", "true"], capture_output=True).returncode == 0
    if os.geteuid() != 0 or permitted:
        assert found["limit"] == "ValueError"


def test_limits_are_more_than_nothing() -> None:
    with pytest.raises(LeNetError, match="max_images"):
        Limits(max_images=0)
    with pytest.raises(LeNetError, match="rate"):
        Limits(rate=-1)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "onnxruntime"])
def test_every_engine_gives_the_model_s_logits(engine: str, shared_kernels: None) -> None:
    network = read_network(MODEL)
    assert network is not None
    images = np.random.default_rng(0).integers(0, 256, (130, 28, 28), dtype=np.uint8)
    expected = network[0].logits(images)
    try:
        classifier = load_classifier(MODEL, engine=engine)
    except LeNetError as error:
        pytest.skip(str(error))
    x = images.astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(classifier.logits(x), expected, atol=1e-4)
    assert classifier.has_garbage
    powers = np.exp(expected / classifier.temperature)
    likely = powers / (1 + powers.sum(axis=1, keepdims=True))  # garbage has the logit 0
    np.testing.assert_allclose(classifier.probabilities(expected), likely, rtol=1e-4)
    assert classifier.classes == tuple("0123456789")


def test_an_address_that_can_not_be_had_is_an_error() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}/"
        with pytest.raises(LeNetError, match=f"port {port}: Address already in use"):
            listen("127.0.0.1", port)
    with pytest.raises(LeNetError, match="can't listen"):
        listen("no.such.host.invalid", 0)


# The process


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "`port`"),
        (["--workers", "-1"], "`workers`"),
        (["--max-images", "0"], "`max_images`"),
        (["--api-key-file", "/none"], "/none"),
        (["--model", "/none", "--port", "0"], "/none"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve"]) == 1
    assert "pip install '.[serve]'" in capsys.readouterr().err


@pytest.fixture
def process() -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A server and its port."""
    command = [sys.executable, "-m", "lenet", "serve", "--port", "0", "--engine", "numpy"]
    started = subprocess.Popen(
        [*command, "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LENET_API_KEY": "0123456789abcdef"},
    )
    assert started.stderr is not None
    port = int(started.stderr.readline().split("127.0.0.1:")[1].split("/")[0])
    yield started, port
    started.kill()
    started.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_answers_what_it_has_accepted(
    number: signal.Signals, process: tuple["subprocess.Popen[str]", int]
) -> None:
    server, port = process
    body = json.dumps({"images": [[[0] * 28] * 28]}).encode()
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"X-API-Key: 0123456789abcdef\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=30)

    def read_until(connection: socket.socket, end: bytes) -> bytes:
        answer = b""
        while end not in answer and (part := connection.recv(65_536)):
            answer += part
        return answer

    with connect() as begun, connect() as idle, connect() as late:
        begun.sendall(head + body[:100])
        idle.sendall(head + body)
        assert b" 200 " in read_until(idle, b"]}")
        server.send_signal(number)
        time.sleep(0.5)
        with connect() as ready:
            ready.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 503 " in read_until(ready, b"}")
        late.sendall(head + body)
        begun.sendall(body[100:])
        for connection in (begun, late):
            answer = read_until(connection, b"nothing: to the end")
            assert b" 200 " in answer
            assert b"connection: close" in answer
            assert b'"digits"' in answer
        assert idle.recv(1) == b""
        out, err = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "Traceback" not in err
    assert [json.loads(line)["status"] for line in out.splitlines()].count(200) == 3
    with pytest.raises(OSError, match="refused"):
        connect()


def test_told_twice_it_ends_at_once(process: tuple["subprocess.Popen[str]", int]) -> None:
    server, port = process
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100)
    server.send_signal(signal.SIGINT)
    time.sleep(0.3)
    server.send_signal(signal.SIGINT)
    _, err = server.communicate(timeout=10)
    assert server.returncode == 0
    assert "Traceback" not in err
