"""Ray against one process: a study that loses a worker, and a batch reading that is killed.

Run: `.venv/bin/python benchmarks/cluster.py study [--seeds 4] [--flags ...] [--into FILE]`
     `.venv/bin/python benchmarks/cluster.py read [--pictures 200000] [--into FILE]`
     `.venv/bin/python benchmarks/cluster.py speed [--pictures 20000] [--rounds 3] [--into FILE]`

`study`: `lenet study --ray` with two workers, of which one is killed with SIGKILL half-way, against
`lenet study` without Ray: the records must be equal in everything but times. `read`: MNIST's
70,000 images, then again moved by a pixel, and so on, as PNG in Parquet files, are read by one
process and by `lenet predict --ray`, which is killed with SIGKILL half-way, its workers too, and
resumed; the results must have equal rows, none missing or twice. `speed`: pictures a second of one
process, of one a core and of Ray, in turns, start-up included and left out. Prints one line of JSON
at the end; --into puts it into a file that holds the last of each part.
"""

import argparse
import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lenet.data import load
from lenet.files import replacing, write_text
from lenet.processes import num_cores
from lenet.records import environment

LENET = [sys.executable, "-m", "lenet"]
ROWS_A_GROUP = 1000
MOVES = [(0, 0), (0, 1), (1, 0), (1, 1), (0, -1), (-1, 0)]
"""Rows down and columns to the right, of each time that the images come."""


def processes(*words: str) -> list[int]:
    """Return the processes whose command line has all these words."""
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True)
    return [int(x.split()[0]) for x in found.stdout.splitlines() if all(w in x for w in words)]


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they did."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = {int(a): int(b) for a, b in (x.split() for x in found.stdout.splitlines())}
    known = {pid}
    while more := {child for child, parent in parents.items() if parent in known} - known:
        known |= more
    return sorted(known - {pid})


def require_running(child: subprocess.Popen[bytes]) -> None:
    """Give up where there is nothing left to wait for."""
    if child.poll() is not None:
        sys.exit(f"ended too early, with status {child.returncode}")


def epochs_done(study: Path) -> int:
    """Return how many epochs of a study are on the disk."""
    return sum(len(path.read_text().splitlines()) for path in study.glob("seed-*/metrics.jsonl"))


def figures(study: Path) -> Any:
    """Return a study's record without its times and without where they were taken."""
    record = json.loads((study / "study.json").read_text())
    del record["environment"], record["command"], record["summary"]["training_s"]
    for each in record["runs"]:
        del each["training_s"]
    return record


def measure_study(seeds: int, flags: list[str], folder: Path) -> dict[str, Any]:
    """Kill a worker of a study on Ray, and compare with one without Ray."""
    command = [*LENET, "study", *flags, "--quiet", "--seeds", str(seeds), "--out"]
    started = time.perf_counter()
    child = subprocess.Popen([*command, str(folder / "ray"), "--ray"], stdout=subprocess.DEVNULL)
    epochs = 0
    while True:
        recipes = list((folder / "ray").glob("seed-*/recipe.json"))
        if recipes:
            epochs = json.loads(recipes[0].read_text())["recipe"]["epochs"]
        if epochs and epochs_done(folder / "ray") >= seeds * epochs // 2:
            break
        require_running(child)
        time.sleep(0.1)
    workers = [pid for pid in descendants(child.pid) if pid in processes("ray::_run_there")]
    os.kill(workers[0], signal.SIGKILL)
    status = child.wait()
    seconds = time.perf_counter() - started
    subprocess.run([*command, str(folder / "here")], check=True, stdout=subprocess.DEVNULL)
    sessions = [
        json.loads((folder / "ray" / f"seed-{seed}" / "record.json").read_text())["num_sessions"]
        for seed in range(seeds)
    ]
    models = [f"seed-{seed}/model.safetensors" for seed in range(seeds)]
    return {
        "seeds": seeds,
        "workers_at_the_kill": len(workers),
        "status": status,
        "seconds": seconds,
        "num_sessions": sessions,
        "records_equal": figures(folder / "ray") == figures(folder / "here"),
        "model_files_equal": sum(
            (folder / "ray" / m).read_bytes() == (folder / "here" / m).read_bytes() for m in models
        ),
    }


def write_pictures(path: Path, num_pictures: int) -> None:
    """Write MNIST's images as PNG into a Parquet file, moved by a pixel each time they repeat."""
    splits = [load("mnist", "train"), load("mnist", "test")]
    images = np.concatenate([digits.images.numpy() for digits in splits])
    labels = np.concatenate([digits.labels.numpy() for digits in splits])
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, num_pictures, ROWS_A_GROUP):
            rows = range(start, min(start + ROWS_A_GROUP, num_pictures))
            places = [row % len(images) for row in rows]
            pictures = [png(images[row % len(images)], MOVES[row // len(images)]) for row in rows]
            writer.write_table(pa.table({"image": pictures, "label": labels[places]}, schema))


def png(image: Any, move: tuple[int, int]) -> bytes:
    """Return an image, moved, as a PNG file."""
    stream = io.BytesIO()
    # A digit is 20x20 at most, within 28x28; so nothing comes out at the other side.
    Image.fromarray(np.roll(image, move, (0, 1))).save(stream, "PNG")
    return stream.getvalue()


def rows_of(folder: Path) -> Any:
    """Return a result as one table, in the order of its files."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*"))])


def read(pictures: Path, out: Path, *flags: str) -> float:
    """Read pictures into a folder; return the seconds it took."""
    started = time.perf_counter()
    command = [*LENET, "predict", str(pictures), "--out", str(out), *flags]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def reading_rate(out: Path, num_pictures: int) -> float:
    """Return the pictures a second between the end of start-up, and the last file of a result.

    The first file marks the end of start-up; its own pictures are left out.
    """
    times = [path.stat().st_mtime for path in out.glob("part-*")]
    return (num_pictures - ROWS_A_GROUP) / (max(times) - min(times))


def kill_reading(pictures: Path, out: Path, num_parts: int) -> dict[str, Any]:
    """Read on Ray and kill all of it half-way; return what was there, and when it was written."""
    command = [*LENET, "predict", str(pictures), "--out", str(out), "--ray"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob("part-*"))) < num_parts // 2:
        require_running(child)
        time.sleep(0.05)
    for pid in [child.pid, *descendants(child.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.wait()
    return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}


def measure_reading(num_pictures: int, folder: Path) -> dict[str, Any]:
    """Kill a reading on Ray, resume it, and compare with one in a single process."""
    pictures, here, there = folder / "pictures.parquet", folder / "here", folder / "there"
    if not pictures.exists():
        with replacing(pictures) as temporary:
            write_pictures(temporary, num_pictures)
    num_parts = -(-num_pictures // ROWS_A_GROUP)
    # The two side by side, as this is not about time.
    command = [*LENET, "predict", str(pictures), "--out", str(here), "--jobs", "1"]
    single = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    killed = folder / "killed.json"
    if not killed.exists():
        write_text(killed, json.dumps(kill_reading(pictures, there, num_parts)))
    read(pictures, there, "--ray")
    if single.wait():
        raise SystemExit("the single process failed")
    done = json.loads(killed.read_text())
    untouched = all((there / name).stat().st_mtime_ns == when for name, when in done.items())
    ours, theirs = rows_of(there), rows_of(here)
    labels = pq.read_table(pictures, columns=["label"])["label"].to_pylist()
    right = sum(str(a) == b for a, b in zip(labels, theirs["label"].to_pylist(), strict=True))
    return {
        "pictures": num_pictures,
        "parts": num_parts,
        "parts_at_the_kill": len(done),
        "parts_left_untouched": untouched,
        "rows": len(ours),
        "different_rows": len(set(ours["path"].to_pylist())),
        "tables_equal": ours.equals(theirs),
        "rows_that_differ": num_different(ours, theirs),
        "labels_right": right,
    }


def num_different(ours: Any, theirs: Any) -> int:
    """Return how many rows of two results of the same length are not equal in every column."""
    if len(ours) != len(theirs):
        return max(len(ours), len(theirs))
    pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
    return sum(a != b for a, b in pairs)


def measure_speed(num_pictures: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Time both ways in turns."""
    pictures = folder / "pictures.parquet"
    write_pictures(pictures, num_pictures)
    cores = num_cores()
    ways = {
        "one process": ["--jobs", "1"],
        f"{cores} processes": ["--jobs", str(cores)],
        f"Ray Data, {cores} workers": ["--ray"],
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for i in range(rounds):
        for name, flags in ways.items():
            out = folder / f"{name}-{i}"
            seconds = read(pictures, out, *flags)
            rate = reading_rate(out, num_pictures)
            found[name].append({"seconds": seconds, "pictures_per_s": rate})
            print(name, found[name][-1], file=sys.stderr, flush=True)
    return {
        "pictures": num_pictures,
        "rounds": found,
        "median": {
            name: {key: median(each[key] for each in all_) for key in all_[0]}
            for name, all_ in found.items()
        },
    }


def main() -> int:
    """Run a part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("study", "read", "speed"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--flags", default="fast", help="of `lenet study`, in one word")
    parser.add_argument("--pictures", type=int, default=0, help="0: what the part is made for")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where `read` goes on if it was stopped")
    parser.add_argument("--into", type=Path, help="a file of JSON that keeps each part's last")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = options.folder or Path(work)
        folder.mkdir(parents=True, exist_ok=True)
        if options.part == "study":
            found = measure_study(options.seeds, shlex.split(options.flags), folder)
        elif options.part == "read":
            found = measure_reading(options.pictures or 200_000, folder)
        else:
            found = measure_speed(options.pictures or 20_000, options.rounds, folder)
    result = {"benchmark": "cluster", "part": options.part, **found, "environment": environment()}
    if options.into is not None:
        path = options.into
        parts = json.loads(path.read_text()) if path.exists() else {}
        write_text(path, json.dumps({**parts, options.part: result}, indent=1) + "\n")
    print(json.dumps(result))
    return 0 if found.get("records_equal", True) and found.get("tables_equal", True) else 1


if __name__ == "__main__":
    sys.exit(main())
