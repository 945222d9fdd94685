"""A person's own pictures with their labels: a folder for each label, or a CSV."""

import csv
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from lenet.errors import PictureError
from lenet.reading.decode import SUFFIXES, is_junk, walk

COLUMNS = ("path", "label")
DELIMITERS = ",;\t"
BINARY = {
    b"PK\x03\x04": "a zip or NumPy archive",
    b"\x93NUMPY": "a NumPy array",
    b"PAR1": "a Parquet file",
    b"MATLAB": "a MATLAB file",
    b"\x89HDF": "an HDF5 file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "a gzip file",
    b"\0\0\x08": "an IDX file",
}
"""What a file that is no CSV begins with, and what that says of it."""
WANTED = "expected a CSV with the columns path and label"
MAX_SHOWN = 10


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
        where = "in subfolders named by their labels" if source.is_dir() else "below the header"
        raise PictureError(f"{source}: no pictures {where}")
    unknown = sorted({label for _, label in found} - set(classes))
    if unknown:
        what = "subfolders" if source.is_dir() else "labels"
        raise PictureError(
            f"{source}: {what} must be named {_shown(classes)}; found {_shown(unknown)}"
        )
    return found


def _read_text(source: Path) -> str:
    """Return the text of a file that may be a CSV."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise PictureError(f"{source}: can't be read: {error.strerror}") from None
    found = next((what for magic, what in BINARY.items() if content.startswith(magic)), None)
    if source.name.lower().endswith(tuple(SUFFIXES)):
        found = "a single picture"
    if not content:
        found = "an empty file"
    if found:
        raise PictureError(f"{source}: {WANTED}, found {found}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PictureError(f"{source}: {WANTED}, found a file that is not UTF-8 text") from None


def _read_table(source: Path, classes: Sequence[str]) -> list[tuple[Path, str]]:
    text = _read_text(source)
    # Not `splitlines`, which also splits at characters that may stand in a name.
    lines = StringIO(text, newline="")
    head = lines.readline()
    table = csv.reader(lines, delimiter=max(DELIMITERS, key=head.count))
    try:
        [header] = csv.reader([head], table.dialect)
        rows = [(table.line_num + 1, row) for row in table]
    except csv.Error as error:
        raise PictureError(f"{source}: {WANTED}, found: {error}") from None
    names = [name.strip().lower() for name in header]
    if not set(COLUMNS) <= set(names):
        raise PictureError(f"{source}: {WANTED}, found {_shown(header) or 'no header'}")
    places = [names.index(name) for name in COLUMNS]
    found = []
    for number, row in rows:
        if not any(row):
            continue
        if len(row) <= max(places):
            raise PictureError(f"{source}: line {number} has {len(row)} of {len(header)} columns")
        path, label = (row[place].strip() for place in places)
        if not path or not label:
            raise PictureError(f"{source}: line {number} has an empty path or label")
        # A spreadsheet may have made a number of it, with a comma where its user writes one.
        label = re.sub(r"[.,]0+$", "", label) if label not in classes else label
        found.append((source.parent / path, label))
    return found


def _shown(names: Sequence[str]) -> str:
    """Return names for a message, each and all of them cut to a readable length."""
    parts = [name if len(name) <= 40 else f"{name[:40]}..." for name in names[:MAX_SHOWN]]
    left = len(names) - len(parts)
    return ", ".join(parts) + (f" and {left} more" if left > 0 else "")
