"""A process that reads pictures and long JSON for a server: `python -m lenet.serve.worker`.

Frames come on standard input and go out on standard output; the server classifies what a worker
asks it to. On Linux it can open no file and no connection. A picture that crashes or stalls a
worker costs this process and nothing else.
"""

import ctypes
import os
import signal
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    MpoImagePlugin,  # noqa: F401  # which Pillow imports when it meets one
)

from lenet.errors import PictureError
from lenet.reading.reader import Digit, Number, Reader
from lenet.serve.frames import read_frame, write_frame
from lenet.serve.pixels import parse_pixels
from lenet.serve.problems import ProblemError
from lenet.serve.tensors import parse_inference

MAX_MEMORY_BYTES = 3 * 2**30
"""Of addresses; a picture of the most pixels that are decoded takes about a third."""


def main() -> None:
    """Answer frames until standard input ends."""
    # Ctrl-C reaches every process of a terminal; the server ends its workers when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not end up between frames.
    frames_out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _import_all()
    _give_up_rights()
    run(sys.stdin.buffer, frames_out)


def run(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer frames until the stream ends.

    A job is `{"job": "digit" | "number"}` with a picture's bytes, or `{"job": ..., "shape": [H,
    W]}` with its grey values, or `{"job": "pixels" | "tensors"}` with a request's body. The answer
    is `{"value": ...}` or `{"problem": [status, detail]}`. In between, `{"classify": N}` with N
    images asks for logits, which come as `{"shape": [N, C]}`.
    """

    def classify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        write_frame(outgoing, {"classify": len(images)}, images.tobytes())
        frame = read_frame(incoming)
        if frame is None:  # the server is gone
            raise SystemExit(0)
        header, body = frame
        return np.frombuffer(body, np.float32).reshape(header["shape"])

    write_frame(outgoing, {"ready": os.getpid()})
    while (frame := read_frame(incoming)) is not None:
        job, body = frame
        try:
            value, rest = JOBS[job["job"]](job, body, classify)
        except PictureError as error:
            write_frame(outgoing, {"problem": [422, str(error)]})
        except ProblemError as error:
            write_frame(outgoing, {"problem": [error.status, error.detail]})
        except MemoryError:
            write_frame(outgoing, {"problem": [422, "takes too much memory to read"]})
        else:
            write_frame(outgoing, {"value": value}, rest)


def _import_all() -> None:
    """Import what reading a picture imports, as no file can be opened later."""
    Image.preinit()
    page = np.full((60, 60), 240, np.uint8)
    page[20:40, 28:32] = 10
    Reader(lambda images: np.zeros((len(images), 2), np.float32), "ab").read_number(page)


def _give_up_rights() -> None:
    """Give up memory, files, connections and processes; on Linux, for good.

    Where the system permits it (containers and hardened kernels may not), also leave the server's
    user and network namespaces: then root can't raise the limits again, and the memory and
    environment of the server's user's processes are out of reach. Source: unshare(2).
    """
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        # Nothing new can be opened, no socket either. What is open stays so.
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        new_user, new_network = 0x10000000, 0x40000000
        ctypes.CDLL(None).unshare(new_user | new_network)


def _source(job: dict[str, Any], body: bytes) -> bytes | NDArray[np.uint8]:
    if "shape" in job:
        return np.frombuffer(body, np.uint8).reshape(job["shape"])
    return body


def _digit(job: dict[str, Any], body: bytes, classify: Any) -> tuple[Any, bytes]:
    reader = Reader(classify, job["classes"], temperature=job["temperature"])
    return answer_digit(reader.read_digit(_source(job, body)), job["reject"]), b""


def _number(job: dict[str, Any], body: bytes, classify: Any) -> tuple[Any, bytes]:
    reader = Reader(classify, job["classes"], temperature=job["temperature"])
    return answer_number(reader.read_number(_source(job, body)), job["reject"]), b""


def _pixels(job: dict[str, Any], body: bytes, classify: Any) -> tuple[Any, bytes]:
    kind, arrays = parse_pixels(body, **job["limits"])
    shapes = [list(array.shape) for array in arrays]
    return {"kind": kind, "shapes": shapes}, b"".join(array.tobytes() for array in arrays)


def _tensors(job: dict[str, Any], body: bytes, classify: Any) -> tuple[Any, bytes]:
    inference, x = parse_inference(body, job["header_length"], **job["limits"])
    value = {"id": inference.id, "outputs": inference.outputs, "num_images": len(x)}
    return value, x.tobytes()


JOBS = {"digit": _digit, "number": _number, "pixels": _pixels, "tensors": _tensors}


def answer_digit(digit: Digit, reject: float) -> dict[str, Any]:
    """Return what is answered of a picture of one digit: plain values."""
    is_rejected = digit.label is not None and digit.probability < reject
    status = "rejected" if is_rejected else "read" if digit.label is not None else "empty"
    return {
        "label": None if is_rejected else digit.label,
        "probability": digit.probability,
        "probabilities": list(digit.probabilities),
        "status": status,
        "box": digit.box,
    }


def answer_number(number: Number, reject: float) -> dict[str, Any]:
    """Return what is answered of a picture of numbers: plain values."""
    is_rejected = bool(number.lines) and number.probability < reject
    return {
        "number": number.text if number.lines and not is_rejected else None,
        "probability": number.probability,
        "status": "rejected" if is_rejected else "read" if number.lines else "empty",
        "lines": [
            {"text": line.text, "probabilities": line.probabilities, "box": line.box}
            for line in (() if is_rejected else number.lines)
        ],
    }


if __name__ == "__main__":
    main()
