"""What a batch reading is cut into: rows of Parquet files, or some hundred picture files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet.errors import LeNetError, PictureError
from lenet.reading.decode import SUFFIXES, walk

PARQUET_SUFFIX = ".parquet"
FILES_A_UNIT = 500
ROWS_A_UNIT = 5000
"""At most: many programs write a file of Parquet as one row group."""
ROWS_AT_ONCE = 64
"""Of Parquet, whose pictures are in memory together."""

Source = bytes | str | PictureError
"""A picture's bytes, its path, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What becomes one file of the result."""

    number: int
    kind: str
    """"parquet" or "files"."""
    paths: tuple[str, ...]
    """One, or for "files" each picture's."""
    row_group: int = 0
    first_row: int = 0
    """In its file, so that a row's name says where it is."""
    rows_before: int = 0
    """In the row group, which are another unit's."""
    num_rows: int = 0

    @property
    def part(self) -> str:
        """Name of its file in the result; these sort as the pictures were given."""
        return f"part-{self.number:06}.parquet"


def find_sources(name: str, out: Path) -> Iterator[str]:
    """Yield the files of a name, a folder's in the order of their names.

    Args:
        name: A file or folder.
        out: Folder of the result; nothing in it is a source.

    Raises:
        PictureError: There are none.
    """
    suffixes = (PARQUET_SUFFIX, *SUFFIXES)
    path = os.path.abspath(name)
    if not os.path.isdir(path):
        if not os.path.isfile(path):
            raise PictureError(f"{name}: no such file or folder")
        yield path
        return
    found = False
    result = os.path.abspath(out)
    for file in walk(path, suffixes):
        # An underscore: what other programs leave beside Parquet files.
        if os.path.basename(file)[0] != "_" and not file.startswith(result + os.sep):
            found = True
            yield file
    if not found:
        raise PictureError(f"{name}: no pictures or Parquet files in this folder")


def cut_units(sources: Sequence[str], column: str) -> list[Unit]:
    """Return the units of files, in their order.

    Args:
        sources: Paths.
        column: Of the images in Parquet files.

    Raises:
        PictureError: A Parquet file is none, or has no such column.
    """
    units: list[Unit] = []
    pictures: list[str] = []

    def take_pictures() -> None:
        for start in range(0, len(pictures), FILES_A_UNIT):
            chunk = tuple(pictures[start : start + FILES_A_UNIT])
            units.append(Unit(number=len(units), kind="files", paths=chunk))
        pictures.clear()

    for path in sources:
        if path.lower().endswith(PARQUET_SUFFIX):
            take_pictures()
            for place in _places(path, column):
                units.append(Unit(number=len(units), kind="parquet", paths=(path,), **place))
        else:
            pictures.append(path)
    take_pictures()
    return units


def _places(path: str, column: str) -> Iterator[dict[str, int]]:
    """Yield where in a Parquet file the rows of each of its units are."""
    first_row = 0
    for group, num_rows in enumerate(_row_groups(path, column)):
        for before in range(0, num_rows, ROWS_A_UNIT):
            yield {
                "row_group": group,
                "first_row": first_row + before,
                "rows_before": before,
                "num_rows": min(ROWS_A_UNIT, num_rows - before),
            }
        first_row += num_rows


def _row_groups(path: str, column: str) -> list[int]:
    """Return the number of rows of each row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.metadata
            if column not in names:
                raise PictureError(f"{path}: no column `{column}`; there is: {', '.join(names)}")
            return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, LeNetError):
            raise
        raise PictureError(f"{path}: not a Parquet file ({error})") from None


def pictures_of(unit: Unit, column: str) -> Iterator[tuple[str, Source]]:
    """Yield the name of each picture of a unit, and the picture."""
    if unit.kind == "parquet":
        return _parquet_pictures(unit, column)
    return ((path, path) for path in unit.paths)


def _parquet_pictures(unit: Unit, column: str) -> Iterator[tuple[str, Source]]:
    """Yield a unit's pictures; a row's name is its file and its place in it, from 0.

    Raises:
        PictureError: The file is no longer there, or no longer a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, place, end = unit.paths[0], unit.first_row, unit.first_row + unit.num_rows
    passed = -unit.rows_before
    try:
        with pq.ParquetFile(path) as file:
            parts = file.iter_batches(ROWS_AT_ONCE, row_groups=[unit.row_group], columns=[column])
            for part in parts:
                passed += len(part)
                # The last of its rows that are the unit's, as some may be of the one before.
                for value in part.column(0).slice(max(0, len(part) - max(0, passed))):
                    if place == end:
                        return
                    yield f"{path}#{place}", _content(value.as_py(), column)
                    place += 1
    except (OSError, pa.ArrowException) as error:
        if not os.path.isfile(path):
            raise PictureError(f"{path}: can't be read: {error}") from None
        for left in range(place, end):
            yield f"{path}#{left}", PictureError(f"a damaged Parquet file ({error})")


def _content(value: object, column: str) -> Source:
    """Return the bytes of a picture that Parquet holds."""
    if isinstance(value, dict):  # as Hugging Face's data sets hold images
        value = value.get("bytes")
    return value if isinstance(value, bytes) else PictureError(f"no bytes in `{column}`")
