"""Where an export goes: nothing is overwritten unasked, and it appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lenet.errors import ExportError
from lenet.export.artifact import Exporter
from lenet.files import TEMPORARY_SUFFIX

RECORD_IN_FOLDER = "export.json"


def record_path(target: Path, exporter: Exporter) -> Path:
    """Return where the record of an export lies."""
    if exporter.is_folder:
        return target / RECORD_IN_FOLDER
    return target.with_name(target.name + ".json")


def check_target(target: Path, exporter: Exporter, *, overwrite: bool) -> None:
    """Refuse a place that can't be written, or must not be.

    Raises:
        ExportError: The message says what is wrong with it.
    """
    if not target.parent.is_dir():
        raise ExportError(f"{target}: there is no folder {target.parent} to write it to")
    if exporter.suffix and target.suffix != exporter.suffix:
        raise ExportError(f"{target}: expected a file name that ends in {exporter.suffix}")
    if exporter.is_folder:
        if target.is_file():
            raise ExportError(f"{target}: is a file; this export is a folder")
        if target.exists() and not (target / RECORD_IN_FOLDER).is_file():
            raise ExportError(f"{target}: this folder is not an export; name another")
    present = [path for path in _names(target, exporter) if path.exists()]
    for path in present:
        if path.is_dir() != exporter.is_folder:
            raise ExportError(f"{path}: is a folder; this export is a file")
    if present and not overwrite:
        raise ExportError(f"{present[0]}: is there already; --overwrite takes its place")


def _names(target: Path, exporter: Exporter) -> list[Path]:
    """Return every path that will be placed."""
    if exporter.is_folder:
        return [target]
    others = [target.with_suffix(suffix) for suffix in exporter.companions]
    return [target, *others, record_path(target, exporter)]


@contextmanager
def staging(target: Path, exporter: Exporter) -> Iterator[Path]:
    """Yield a path of the target's name in a new folder beside it.

    All that lies in that folder when the block ends well is moved to the target's folder, which is
    on the same disk. A folder's export exists already as an empty folder.

    Raises:
        ExportError: The place can't be written.
    """
    try:
        folder = Path(
            tempfile.mkdtemp(prefix=f".{target.name}.", suffix=TEMPORARY_SUFFIX, dir=target.parent)
        )
    except OSError as error:
        raise ExportError(f"{target.parent}: can't be written: {error.strerror}") from None
    try:
        staged = folder / target.name
        if exporter.is_folder:
            staged.mkdir()
        yield staged
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        # The record last: a reader who finds it finds all else.
        names = _names(staged, exporter)
        for path in names:
            _move(path, target.parent / path.name, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(path: Path, place: Path, folder: Path) -> None:
    if not place.is_dir():
        os.replace(path, place)
        return
    # A folder that is not empty can't be replaced: it goes away with the temporary one.
    old = place.rename(folder / "replaced")
    try:
        os.replace(path, place)
    except OSError:
        old.rename(place)
        raise
