"""The verbs that read pictures; without torch, so that they answer at once.

stdout holds a line for each picture, stderr a line for each that can't be read.
"""

import contextlib
import csv
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.conf import Positional

from lenet.cli.options import fill_in, parse
from lenet.errors import LeNetError, PictureError
from lenet.reading.decode import SUFFIXES, Source, walk
from lenet.reading.limits import MAX_BYTES
from lenet.reading.reader import Digit, Number, Reader, describe_digit
from lenet.reading.steps import Step, save_steps
from lenet.schema import to_json

MAX_STEP_ROWS = 50
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Read the digit in each picture; a model comes with the package.

    Examples:
      lenet predict seven.jpg scans/
      lenet predict photo.jpg --show-steps steps.png
      lenet predict scans/ --csv > labels.csv
      lenet predict test.csv --csv > submission.csv     a table of pixels, as Kaggle's
      curl -s https://example.org/7.png | lenet predict - --json
      lenet predict scans/ digits.parquet --out labels/ --ray
    """

    pictures: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURE...")]
    """Files, folders, or - for standard input."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="RUN|FILE")] = None
    """Another model than the package's own."""
    reject: float = 0.0
    """Give no label below this probability, 0 to 1."""
    csv: bool = False
    """Print a table of comma-separated values."""
    json: bool = False
    """Print one JSON object a line."""
    show_steps: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    """Draw what each step made of each picture."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write Parquet files into this folder instead, and go on with them if the command was stopped;
    PICTURE may then be Parquet files too. Needs lenet[cluster]."""
    column: str = "image"
    """Of the pictures in Parquet files: their bytes, or a struct with a field `bytes`."""
    jobs: int = 0
    """With --out: processes side by side; 0 for one a core."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """With --out: read on a Ray cluster (`auto`: that which runs here); without an address, on one
    of this machine's own."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Read the number, or the lines of numbers, in each picture.

    Examples:
      lenet read amount.jpg meters/
      lenet read page.png --json
    """

    pictures: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="PICTURE...")]
    """Files, folders, or - for standard input."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="RUN|FILE")] = None
    """Another model than the package's own."""
    reject: float = 0.0
    """Give no number below this probability, 0 to 1."""
    csv: bool = False
    """Print a table of comma-separated values."""
    json: bool = False
    """Print one JSON object a line."""


def predict(arguments: Sequence[str]) -> int:
    """Read the digit in each picture."""
    options = parse(PredictOptions, "predict", fill_in(arguments, "--ray", "local"))
    _check(options.pictures, options.reject, "predict")
    if options.jobs < 0:
        raise PictureError(f"`jobs` (={options.jobs}) must be at least 0")
    if options.out is not None:
        return _predict_batch(options, options.out)
    if options.ray is not None or options.jobs:
        raise PictureError("`--ray` and `--jobs` need `--out`: a folder for what was read")
    reader = _reader(options.model)
    if any(name.lower().endswith(".csv") for name in options.pictures):
        return _predict_table(options, reader)
    steps: list[tuple[str, Sequence[Step]]] = []
    write = _writer(options.json, options.csv)

    def read(source: Source) -> Digit:
        return reader.read_digit(source, keep_steps=options.show_steps is not None)

    failed = False
    for name, found in _read_all(options.pictures, read):
        if isinstance(found, Exception):
            print(f"error: {shown(name)}: {found}", file=sys.stderr)
            failed = True
            continue
        if found.number:
            hint = f"perhaps the number {found.number}: `lenet read` reads several digits"
            print(f"{shown(name)}: {hint}", file=sys.stderr)
        write(describe_digit(name, found, options.reject))
        if options.show_steps and len(steps) < MAX_STEP_ROWS:
            steps.append((f"{shown(name)}: {found.label or 'no digit'}", found.normalized.steps))
    if options.show_steps and steps:
        save_steps(options.show_steps, steps)
        print(f"steps: {options.show_steps}", file=sys.stderr)
    return 1 if failed else 0


def _predict_table(options: PredictOptions, reader: Reader) -> int:
    """Read the rows of a table of pixels; `--csv` prints what Kaggle's competition takes."""
    if len(options.pictures) > 1 or options.json or options.show_steps:
        raise PictureError("a table of pixels is read alone, without `--json` and `--show-steps`")
    from lenet.data.formats import read_table

    images, _ = read_table(Path(options.pictures[0]))
    labels = reader.probabilities(images).argmax(axis=1)
    print("ImageId,Label" if options.csv else "row label")
    for number, label in enumerate(labels.tolist(), 1):
        print(number, reader.classes[label], sep="," if options.csv else " ")
    return 0


def _predict_batch(options: PredictOptions, out: Path) -> int:
    """Read into Parquet files, and go on with what is missing of them."""
    if options.csv or options.json or options.show_steps or "-" in options.pictures:
        raise PictureError("`--out` excludes `--csv`, `--json`, `--show-steps` and `-`")
    if options.ray is not None and options.jobs:
        raise PictureError("`--jobs` has no effect with `--ray`: the cluster takes what it can")
    from rich.console import Console
    from rich.progress import track

    from lenet.reading import batch

    planned = batch.plan(
        out,
        options.pictures,
        column=options.column,
        model=options.model,
        reject=options.reject,
    )
    console = Console(stderr=True)
    num_left = len(planned.left)
    console.print(f"{num_left} of {len(planned.units)} parts to read", highlight=False)
    read_parts = (
        batch.read_here(planned, options.jobs)
        if options.ray is None
        else batch.read_on_ray(planned, options.ray)
    )
    try:
        with batch.claimed(planned), contextlib.closing(read_parts):
            for _ in track(
                read_parts,
                "reading",
                total=num_left,
                console=console,
                transient=True,
                disable=not console.is_terminal,
            ):
                pass
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the same command goes on in {out}") from None
    found = batch.count(planned)
    print(f"{sum(found.values()):,} pictures in {out}: ", end="")
    print(", ".join(f"{number:,} {status}" for status, number in sorted(found.items())))
    return 1 if found.get("error") else 0


def read(arguments: Sequence[str]) -> int:
    """Read the number in each picture."""
    options = parse(ReadOptions, "read", arguments)
    _check(options.pictures, options.reject, "read")
    reader = _reader(options.model)
    write = _writer(options.json, options.csv)
    failed = False
    for name, found in _read_all(options.pictures, reader.read_number):
        if isinstance(found, Exception):
            print(f"error: {shown(name)}: {found}", file=sys.stderr)
            failed = True
            continue
        if found.turned:
            print(f"{shown(name)}: read after a turn by {found.turned} degrees", file=sys.stderr)
        write(describe_number(name, found, options.reject))
    return 1 if failed else 0


def describe_number(name: str, number: Number, reject: float) -> dict[str, Any]:
    """Return what is printed of a picture: plain values by column."""
    is_rejected = bool(number.lines) and number.probability < reject
    return {
        "path": name,
        "number": number.text if number.lines and not is_rejected else None,
        "probability": round(number.probability, 4),
        "status": "rejected" if is_rejected else "read" if number.lines else "empty",
        "best": number.text if number.lines else None,
        "lines": [] if is_rejected else [line.text for line in number.lines],
        "boxes": [line.box for line in number.lines],
        "turned": number.turned,
    }


def _check(pictures: Sequence[str], reject: float, verb: str) -> None:
    if not pictures:
        raise PictureError(f"no pictures named; `lenet {verb} --help` shows how")
    if not 0 <= reject <= 1:
        raise PictureError(f"`reject` (={reject}) must be between 0 and 1")


def shown(name: str) -> str:
    """Return a name for the terminal: what is not printable, line ends too, is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _reader(model: Path | None) -> Reader:
    return Reader.from_pretrained() if model is None else Reader.from_model(model)


def _writer(as_json: bool, as_csv: bool) -> Callable[[dict[str, Any]], None]:
    """Return what prints a line for each picture."""
    if as_json and as_csv:
        raise PictureError("`--json` and `--csv` exclude each other")
    if as_json:
        return lambda row: print(to_json(row), flush=True)
    if as_csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        is_first = [True]

        def write_csv(row: dict[str, Any]) -> None:
            if is_first:
                is_first.clear()
                table.writerow(row)
            table.writerow(_csv_cell(value) for value in row.values())
            sys.stdout.flush()

        return write_csv
    return lambda row: print(_table_line(row), flush=True)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return value


def _table_line(row: dict[str, Any]) -> str:
    if row["status"] == "empty":
        return f"-  no digit found               {shown(row['path'])}"
    if "number" in row:
        number = f"? ({row['best']})" if row["status"] == "rejected" else row["number"]
        return f"{number:<16} {row['probability']:>6.1%}   {shown(row['path'])}"
    second = f"{row['second']} {row['second_probability']:.1%}"
    if row["status"] == "several":
        return f"-  several things               {shown(row['path'])}"
    if row["status"] == "not a digit":
        return f"-  no digit {row['probability']:>6.1%}   then {second:<12}  {shown(row['path'])}"
    label = "?" if row["status"] == "rejected" else row["label"]
    best = f"({row['best']}) " if row["status"] == "rejected" else ""
    return f"{label}  {best}{row['probability']:>6.1%}   then {second:<12}  {shown(row['path'])}"


def _read_all(
    names: Iterable[str], read: Callable[[Source], T]
) -> Iterator[tuple[str, T | Exception]]:
    """Read pictures on all cores, in order, a few ahead; an error takes its picture's place."""
    num_workers = max(1, os.cpu_count() or 1)
    waiting: deque[tuple[str, Future[T]]] = deque()

    def next_result() -> tuple[str, T | Exception]:
        name, future = waiting.popleft()
        try:
            return name, future.result()
        except LeNetError as error:
            return name, error

    with ThreadPoolExecutor(num_workers) as pool:
        for name, source in _find(names):
            if isinstance(source, Exception):
                while waiting:
                    yield next_result()
                yield name, source
                continue
            waiting.append((name, pool.submit(read, source)))
            if len(waiting) > 2 * num_workers:
                yield next_result()
        while waiting:
            yield next_result()


def _find(names: Iterable[str]) -> Iterator[tuple[str, Source | Exception]]:
    """Yield each picture that is named, or lies in a folder that is named, links not followed."""
    for name in names:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
            too_long = PictureError(f"more than {MAX_BYTES:,} bytes")
            yield name, too_long if len(data) > MAX_BYTES else data
        elif os.path.isdir(name):
            found = False
            for path in walk(name):
                found = True
                yield path, path
            if not found:
                yield name, PictureError(f"no pictures in this folder ({' '.join(SUFFIXES)})")
        else:
            yield name, name
