"""A person's own pictures with their labels: a folder for each label, or a CSV."""

import csv
from pathlib import Path

from lenet.errors import PictureError
from lenet.images.decode import SUFFIXES


def find_labelled(source: Path) -> list[tuple[Path, str]]:
    """Return the pictures and labels that a folder or a table names, in a fixed order.

    Args:
        source: A folder with a subfolder for each label, or a CSV whose header has the columns
            `path` (relative to the CSV) and `label`.

    Raises:
        PictureError: There is none, or it holds no labelled picture.
    """
    if source.is_dir():
        found = [
            (path, folder.name)
            for folder in sorted(p for p in source.iterdir() if p.is_dir())
            for path in sorted(folder.rglob("*"))
            if path.name.lower().endswith(tuple(SUFFIXES)) and path.is_file()
        ]
    elif source.is_file():
        found = _read_table(source)
    else:
        raise PictureError(f"{source}: no such folder or CSV file")
    if not found:
        raise PictureError(f"{source}: no pictures in subfolders named by their labels")
    return found


def _read_table(source: Path) -> list[tuple[Path, str]]:
    try:
        with source.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PictureError(f"{source}: expected a CSV file in UTF-8 ({error})") from None
    if rows and not {"path", "label"} <= rows[0].keys():
        raise PictureError(
            f"{source}: expected columns `path` and `label`, found {', '.join(rows[0])}"
        )
    return [(source.parent / row["path"], row["label"]) for row in rows]
