"""Read many pictures into Parquet: from Parquet with an image column, or folders.

The work is cut into units (a row group, or some hundred files of a folder). Each becomes one file
of the result, written whole or not at all, so that a command that was stopped continues with the
units that are missing, and no row is read into the result twice or left out. A manifest records
what the units are of; a result is never continued over other pictures, with another model or
another version of the package.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lenet import __version__
from lenet.errors import ClusterError, LeNetError, PictureError, RunError, install_hint
from lenet.files import remove_temporaries, replacing, write_text
from lenet.parallel import num_cores, worker_pool
from lenet.parallel.ray_cluster import connected, reason_of
from lenet.reading.batch_units import Source, Unit, cut_units, find_sources, pictures_of
from lenet.reading.reader import PRETRAINED, Digit, Reader, describe_digit

MANIFEST_FILE = "_manifest.json"
"""Underscores, so that those who read a folder of Parquet files pass over it."""
LOCK_FILE = ".lock"
PICTURES_AT_ONCE = 128
"""Of which the network sees the 28x28 images together; of their files one is in memory."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A whole reading: the pictures, and how they are read."""

    out: Path
    units: tuple[Unit, ...]
    column: str
    model: Path | None
    reject: float

    @property
    def left(self) -> list[Unit]:
        """Units whose file is not there yet."""
        return [unit for unit in self.units if not (self.out / unit.part).is_file()]


def plan(
    out: Path, names: Sequence[str], *, column: str, model: Path | None, reject: float
) -> Batch:
    """Find the units, and begin or go on with a result.

    Args:
        out: Folder of the result.
        names: Parquet files, pictures, and folders of either.
        column: Of the images in Parquet: their files' bytes, or a struct with a field `bytes`.
        model: As for `Reader.from_model`; None for the package's own.
        reject: No label is given below this probability.

    Raises:
        PictureError: Nothing to read.
        RunError: The folder holds something else, or a result of other pictures or settings.
    """
    _require_pyarrow()
    sources = [path for name in names for path in find_sources(name, out)]
    units = cut_units(sources, column)
    digest = hashlib.sha256(json.dumps([asdict(unit) for unit in units]).encode())
    for source in sources:
        status = os.stat(source)
        digest.update(f"{source} {status.st_size} {status.st_mtime_ns}".encode())
    manifest = {
        "sources": digest.hexdigest(),
        "num_units": len(units),
        "column": column,
        "model": _model_hash(model),
        "reject": reject,
        "version": __version__,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        _keep_manifest(out, manifest)
    except OSError as error:
        if isinstance(error, LeNetError):
            raise
        raise RunError(f"{out}: can't be written: {error.strerror or error}") from None
    return Batch(out=out, units=tuple(units), column=column, model=model, reject=reject)


def _keep_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write a result's manifest, or compare with that which is there."""
    path = out / MANIFEST_FILE
    if path.is_file():
        try:
            found = json.loads(path.read_bytes())
            changed = [key for key in manifest if found.get(key) != manifest[key]]
        except (ValueError, AttributeError):
            raise RunError(f"{path}: damaged; name another folder for the result") from None
        if changed:
            raise RunError(
                f"{out}: holds a result of other {', '.join(changed)}; name another folder"
            )
    elif any(entry.name != LOCK_FILE for entry in out.iterdir()):
        raise RunError(f"{out}: expected a new or empty folder, found other files")
    else:
        write_text(path, json.dumps(manifest, indent=1) + "\n")


@contextmanager
def claimed(batch: Batch) -> Iterator[None]:
    """Hold the result's folder, in the one command that writes there.

    Raises:
        RunError: Another one does, or it can't be written.
    """
    lock = FileLock(batch.out / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{batch.out}: another command is reading into this folder") from None
    try:
        remove_temporaries(batch.out)
        yield
    except OSError as error:
        if isinstance(error, LeNetError):
            raise
        raise RunError(
            f"{batch.out}: can't be written: {error.strerror or error}; "
            "when the cause is gone, the same command goes on"
        ) from None
    finally:
        lock.release()


def read_here(batch: Batch, num_jobs: int = 0) -> Generator[int]:
    """Read what is left, in processes side by side; yield the number of pictures of each unit.

    Args:
        batch: From `plan`.
        num_jobs: Processes; 0 for one a core.

    Raises:
        RunError: A process was killed.
        LeNetError: What would stop every unit.
    """
    left = batch.left
    num_jobs = min(num_jobs or num_cores(), len(left))
    if num_jobs <= 1:
        yield from (_read_unit(batch, unit) for unit in left)
        return
    settings = replace(batch, units=())
    try:
        with _one_thread_each(), worker_pool(num_jobs) as pool:
            for done in as_completed([pool.submit(_read_unit, settings, unit) for unit in left]):
                yield done.result()
    except BrokenProcessPool:
        raise RunError(
            "a process of this reading was killed, perhaps for want of memory; "
            "the same command goes on with what is missing"
        ) from None


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have processes that are started here multiply matrices on one thread, as each has a core."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def read_on_ray(batch: Batch, address: str) -> Generator[int]:
    """Read what is left with Ray Data; yield the number of pictures of each unit.

    The result's folder must be one that all machines see.

    Raises:
        ClusterError: There is no such cluster, or it lost the work for good.
        LeNetError: What would stop every unit.
    """
    left = batch.left
    if not left:
        return
    with connected(address) as ray:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # A block a unit, so that each is a task, which Ray does again where its process was lost.
        items = ray.data.from_items(
            [{"unit": json.dumps(asdict(unit))} for unit in left], override_num_blocks=len(left)
        )
        # Paths that say the same in a process with another working folder.
        model = None if batch.model is None else batch.model.absolute()
        settings = replace(batch, out=batch.out.absolute(), model=model, units=())

        def read(row: dict[str, Any]) -> dict[str, Any]:
            # Ray would wrap an error that is raised, and lose its type.
            try:
                return {"num_pictures": _read_unit(settings, Unit(**json.loads(row["unit"])))}
            except (LeNetError, OSError) as error:
                return {"num_pictures": 0, "error": str(error)}

        try:
            for row in items.map(read, num_cpus=1).iter_rows():
                if row.get("error"):
                    raise RunError(row["error"])
                yield int(row["num_pictures"])
        except ray.exceptions.RayError as error:
            raise ClusterError(f"lost on the cluster: {reason_of(error)}") from None


def count(batch: Batch) -> dict[str, int]:
    """Return how many pictures of the result have each status: read, rejected, empty or error."""
    import pyarrow.parquet as pq

    found: Counter[str] = Counter()
    for unit in batch.units:
        found.update(pq.read_table(batch.out / unit.part, columns=["status"])[0].to_pylist())
    return dict(found)


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise LeNetError(f"--out needs pyarrow: {install_hint('cluster')}") from None


def _model_hash(model: Path | None) -> str:
    if model is not None:
        path = model / "model.safetensors" if model.is_dir() else model
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise RunError(f"{path}: {error.strerror}") from None
    with as_file(files("lenet").joinpath("pretrained", PRETRAINED)) as path:
        return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _reader(model: Path | None) -> Reader:
    return Reader.from_pretrained() if model is None else Reader.from_model(model)


def _read_unit(batch: Batch, unit: Unit) -> int:
    """Read a unit and write its file; return its number of pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    reader = _reader(batch.model)
    rows: list[dict[str, Any]] = []
    pictures = pictures_of(unit, batch.column)
    names: list[str] = []

    def sources() -> Iterator[Source]:
        for name, source in islice(pictures, PICTURES_AT_ONCE):
            names.append(name)
            yield source

    while found := reader.read_digits(sources()):
        rows += [_row(name, digit, batch.reject) for name, digit in zip(names, found, strict=True)]
        names.clear()
    table = pa.Table.from_pylist(rows, schema=_schema())
    with replacing(batch.out / unit.part) as temporary:
        pq.write_table(table, temporary)
    return len(rows)


def _schema() -> Any:
    import pyarrow as pa

    text, real = pa.string(), pa.float64()
    return pa.schema(
        [
            ("path", text), ("label", text), ("probability", real), ("second", text),
            ("second_probability", real), ("status", text), ("best", text),
            ("box", pa.list_(pa.int32())), ("error", text),
        ]
    )  # fmt: skip


def _row(name: str, found: Digit | PictureError, reject: float) -> dict[str, Any]:
    if isinstance(found, PictureError):
        return {"path": name, "status": "error", "error": str(found)}
    return {**describe_digit(name, found, reject), "error": None}
