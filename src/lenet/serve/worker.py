"""A process that reads pictures for a server: `python -m lenet.serve.worker MODEL`.

`lenet.serve.workers` describes the protocol. On Linux, once the model is read, it can open neither
files nor connections.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import (
    Image,
    MpoImagePlugin,  # noqa: F401  # which Pillow imports when it meets one
)

from lenet.errors import PictureError
from lenet.reading.decode import Source
from lenet.reading.reader import Digit, Number, Reader, status_of
from lenet.serve.pixels import parse_pixels
from lenet.serve.problems import ProblemError
from lenet.serve.tensors import parse_inference

MAX_MEMORY_BYTES = 2 * 2**30
"""Of addresses, beyond those used at the start; the largest pictures take about half."""

Job = dict[str, Any]


def main() -> None:
    """Answer jobs until standard input ends."""
    # Ctrl-C reaches every process of a terminal; the server ends its workers when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not end up between answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    reader = Reader.from_model(Path(sys.argv[1]))
    _import_all(reader)
    _give_up_rights()
    run(reader, sys.stdin.buffer, answers)


def run(reader: Reader, jobs: BinaryIO, answers: BinaryIO) -> None:
    """Answer each job: a line of JSON with `job`, `num_bytes` and options, then a body."""

    def send(answer: dict[str, Any], rest: bytes = b"") -> None:
        answers.write(json.dumps({**answer, "num_bytes": len(rest)}).encode() + b"\n" + rest)
        answers.flush()

    send({"value": "ready"})
    for line in jobs:
        job = json.loads(line)
        body = jobs.read(job["num_bytes"])
        try:
            value, rest = JOBS[job["job"]](reader, job, body)
        except PictureError as error:
            send({"problem": [422, str(error)]})
        except ProblemError as error:
            send({"problem": [error.status, error.detail]})
        except MemoryError:
            send({"problem": [422, "takes too much memory to read"]})
        else:
            send({"value": value}, rest)


def _import_all(reader: Reader) -> None:
    """Import what reading a picture imports, because no file can be opened later."""
    Image.preinit()
    page = np.full((60, 60), 240, np.uint8)
    page[20:40, 28:32] = 10
    reader.read_digit(page)
    with contextlib.suppress(PictureError):  # of a model that doesn't read numbers
        reader.read_number(page)


def _give_up_rights() -> None:
    """Give up memory, files, connections and processes; on Linux, for good.

    Where the system permits it, also leave the server's user and network namespaces: then even
    root cannot raise the limits again, and the memory of the server's user's other processes is
    out of reach. Source: unshare(2).
    """
    if sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY_BYTES,) * 2)
    # No new file or socket can be opened; those that are open stay so.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    new_user, new_network = 0x10000000, 0x40000000
    ctypes.CDLL(None).unshare(new_user | new_network)


def _picture(job: Job, body: bytes) -> Source:
    if "shape" in job:
        return np.frombuffer(body, np.uint8).reshape(job["shape"])
    return body


def _digit(reader: Reader, job: Job, body: bytes) -> tuple[Any, bytes]:
    return describe_digit(reader.read_digit(_picture(job, body)), job["reject"]), b""


def _number(reader: Reader, job: Job, body: bytes) -> tuple[Any, bytes]:
    return describe_number(reader.read_number(_picture(job, body)), job["reject"]), b""


def _pixels(reader: Reader, job: Job, body: bytes) -> tuple[Any, bytes]:
    kind, arrays = parse_pixels(body, **job["limits"])
    shapes = [array.shape for array in arrays]
    return {"kind": kind, "shapes": shapes}, b"".join(array.tobytes() for array in arrays)


def _tensors(reader: Reader, job: Job, body: bytes) -> tuple[Any, bytes]:
    inference, x = parse_inference(body, job["header_length"], **job["limits"])
    return {"id": inference.id, "outputs": inference.outputs, "num_images": len(x)}, x.tobytes()


JOBS: dict[str, Callable[[Reader, Job, bytes], tuple[Any, bytes]]] = {
    "digit": _digit,
    "number": _number,
    "pixels": _pixels,
    "tensors": _tensors,
}


def describe_digit(digit: Digit, reject: float) -> dict[str, Any]:
    """Return what /predict answers for a picture: plain values."""
    status = status_of(digit, reject)
    return {
        "label": digit.label if status == "read" else None,
        "probability": digit.probability,
        "probabilities": digit.probabilities,
        "status": status,
        "box": digit.box,
    }


def describe_number(number: Number, reject: float) -> dict[str, Any]:
    """Return what /read answers for a picture: plain values."""
    is_rejected = bool(number.lines) and number.probability < reject
    return {
        "number": number.text if number.lines and not is_rejected else None,
        "probability": number.probability,
        "status": "rejected" if is_rejected else "read" if number.lines else "empty",
        "turned": number.turned,
        "lines": [
            {
                "text": line.text,
                "probability": line.probability,
                "probabilities": line.probabilities,
                "box": line.box,
            }
            for line in (() if is_rejected else number.lines)
        ],
    }


if __name__ == "__main__":
    main()
