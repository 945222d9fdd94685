"""A person's own pictures with their labels: a folder for each label, or a CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from lenet.errors import PictureError
from lenet.reading.decode import is_junk, walk

COLUMNS = ("path", "label")
DELIMITERS = ",;\t"
BINARY = {
    b"PK\x03\x04": "a zip or NumPy archive",
    b"\x93NUMPY": "a NumPy array",
    b"PAR1": "a Parquet file",
    b"MATLAB": "a MATLAB file",
}
"""What a file that is no CSV begins with, and what that says of it."""
MAX_SHOWN = 8


def find_labelled(source: Path, classes: Sequence[str]) -> list[tuple[Path, str]]:
    """Return the pictures and labels that a folder or a table names, in a fixed order.

    Args:
        source: A folder with a subfolder for each label, or a CSV whose header has the columns
            `path` (relative to the CSV) and `label`. Spreadsheets' CSVs are taken as they are:
            with a byte order mark, semicolons or tabs, capitals, spaces, and `7.0` for `7`.
        classes: The labels that there are.

    Raises:
        PictureError: There is none, it holds no labelled picture, or a label is not a class.
    """
    if source.is_dir():
        folders = sorted(p for p in source.iterdir() if p.is_dir() and not is_junk(p.name))
        found = [(Path(path), folder.name) for folder in folders for path in walk(folder)]
    elif source.is_file():
        found = _read_table(source, classes)
    else:
        raise PictureError(f"{source}: no such folder or CSV file")
    if not found:
        raise PictureError(f"{source}: no pictures in subfolders named by their labels")
    unknown = sorted({label for _, label in found} - set(classes))
    if unknown:
        what = "subfolders" if source.is_dir() else "labels"
        raise PictureError(
            f"{source}: {what} must be named {_shown(classes)}; found {_shown(unknown)}"
        )
    return found


def _read_table(source: Path, classes: Sequence[str]) -> list[tuple[Path, str]]:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise PictureError(f"{source}: can't be read: {error.strerror}") from None
    wanted = "expected a CSV with the columns path and label"
    for magic, what in BINARY.items():
        if content.startswith(magic):
            raise PictureError(f"{source}: {wanted}, found {what}")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise PictureError(f"{source}: {wanted}, found a file that is not UTF-8 text") from None
    if not lines:
        raise PictureError(f"{source}: {wanted}, found an empty file")
    delimiter = max(DELIMITERS, key=lines[0].count)
    try:
        header, *rows = csv.reader(lines, delimiter=delimiter)
    except csv.Error as error:
        raise PictureError(f"{source}: {wanted}, found: {error}") from None
    names = [name.strip().lower() for name in header]
    if not set(COLUMNS) <= set(names):
        raise PictureError(f"{source}: {wanted}, found {_shown(header)}")
    places = [names.index(name) for name in COLUMNS]
    found = []
    for number, row in enumerate(rows, 2):
        if not any(row):
            continue
        if len(row) <= max(places):
            raise PictureError(f"{source}: line {number} has {len(row)} of {len(header)} columns")
        path, label = (row[place].strip() for place in places)
        # A spreadsheet may have made a number of it.
        label = label.removesuffix(".0") if label not in classes else label
        found.append((source.parent / path, label))
    return found


def _shown(names: Sequence[str]) -> str:
    """Return names for a message, each and all of them cut to a readable length."""
    parts = [name if len(name) <= 40 else f"{name[:40]}..." for name in names[:MAX_SHOWN]]
    left = len(names) - len(parts)
    return ", ".join(parts) + (f" and {left} more" if left > 0 else "")
