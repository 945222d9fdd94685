"""Measure `lenet predict` on photographs of 12 megapixels, on folders, and on hostile files.

Run: `.venv/bin/python benchmarks/pictures.py [photograph] [folder] [hostile]`, all three unless
some are named. Linux alone: the peak of memory is the kernel's. Photographs are drawn from MNIST's
training images by images/scenes.py, at 4,000 pixels. Each hostile file (hostile_files.py) is read
by `lenet predict` and by `lenet read`, each in a process of its own, which may take 10 s of the
processor and 1 GB. Writes benchmarks/results/pictures.json; the exit status is 1 if a file passed a
limit.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# As `lenet predict` has it: before numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from hostile_files import hostile_files
from PIL import Image

from lenet.data.digits import load
from lenet.images.decode import read_picture
from lenet.images.scenes import KINDS, make_scene
from lenet.reader import Reader
from lenet.records import environment

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "benchmarks" / "results" / "pictures.json"
MAX_S, MAX_MB = 10.0, 1000.0
DEADLINE_S = 120
SEED = 6
PARTS = ("photograph", "folder", "hostile")
CHILD = """
import json, pathlib, sys, time
begin = time.perf_counter()
from lenet.cli import main
status = main(sys.argv[2:])
# The peak of this program alone; that of wait4 begins with its parent's.
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
peak_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
used = {"seconds": round(time.process_time(), 2), "peak_mb": round(peak_kb / 1000, 1)}
used["wall_s"] = time.perf_counter() - begin
pathlib.Path(sys.argv[1]).write_text(json.dumps(used))
sys.exit(status)
"""


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--go-on", action="store_true", help="leave out the files measured before")
    arguments = parser.parse_args()
    parts = arguments.parts or PARTS
    found = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "photograph" in parts:
            found["photograph"] = photograph(folder, arguments.rounds)
        if "folder" in parts:
            found["folder"] = whole_folder(folder, arguments.rounds)
        if "hostile" in parts:
            before = found.get("hostile", []) if arguments.go_on else []
            rows: list[dict[str, Any]] = []
            for title, make in hostile_files():
                old = [row for row in before if row["file"] == title]
                rows += old or [run_alone(title, make, v, folder) for v in ("predict", "read")]
                if not old:
                    left = [row for row in before if row not in rows]
                    write(found | {"hostile": rows + left})
            found["hostile"] = rows
    write(found)
    print(json.dumps({part: found[part] for part in parts if part != "hostile"}))
    over = [
        f"{row['verb']} {row['file']}"
        for row in found.get("hostile", [])
        if row["seconds"] > MAX_S or row["peak_mb"] > MAX_MB
    ]
    print(f"over the limits: {over}", file=sys.stderr)
    return 1 if over else 0


def write(found: dict[str, Any]) -> None:
    """Write what was found so far."""
    found = found | {"environment": environment()}
    TARGET.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def run_alone(title: str, make: Any, verb: str, folder: Path) -> dict[str, Any]:
    """Read one file in a process of its own; return its answer, processor time and peak memory."""
    path, usage = folder / f"{title.replace('/', ' ')}.x", folder / "usage"
    if verb == "predict":
        path.write_bytes(make())
    usage.unlink(missing_ok=True)
    command = [sys.executable, "-c", CHILD, str(usage), verb, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=DEADLINE_S, env=_environment()
    )
    if verb != "predict":
        path.unlink()
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode not in (0, 1) or len(lines) != 1:
        raise AssertionError(f"{title}: expected one line, found {lines[-5:]}")
    said = lines[0].removeprefix(f"error: {path}: ")
    is_empty = done.returncode == 0 and "no digit found" in said
    answer = said if done.returncode else "no digit found" if is_empty else "read"
    row = {"file": title, "verb": verb, "answer": answer}
    row |= {k: v for k, v in json.loads(usage.read_text()).items() if k != "wall_s"}
    print(row, file=sys.stderr)
    return row


def _environment() -> dict[str, str]:
    """Return this process's environment, in which the command line finds this `lenet`."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def photograph(folder: Path, rounds: int) -> dict[str, Any]:
    """Return the times of photographs, one after another in this process and each alone."""
    found: dict[str, Any] = {"megapixels": 12, "rounds": rounds}
    for kind in ("JPEG", "PNG"):
        paths = make_photographs(folder, kind)
        data = [path.read_bytes() for path in paths]
        reader = Reader.from_pretrained()
        whole, cpu, decoding = [], [], []
        for _ in range(rounds):
            for one in data:
                begin, begin_cpu = time.perf_counter(), time.process_time()
                reader.read_digit(one)
                whole.append(1000 * (time.perf_counter() - begin))
                cpu.append(1000 * (time.process_time() - begin_cpu))
                begin_cpu = time.process_time()
                read_picture(one)
                decoding.append(1000 * (time.process_time() - begin_cpu))
        cold = [_cold(path, folder) for path in paths[: 5 if kind == "JPEG" else 2]]
        found[kind] = {
            "num_pictures": len(data),
            "megabytes": _spread([len(one) / 1e6 for one in data]),
            "warm_ms": _spread(whole),
            "warm_cpu_ms": _spread(cpu),
            "decode_cpu_ms": _spread(decoding),
            "cold_s": _spread([used["wall_s"] for used in cold]),
            "cold_cpu_s": _spread([used["seconds"] for used in cold]),
            "peak_mb": max(used["peak_mb"] for used in cold),
        }
    return found


def make_photographs(folder: Path, kind: str) -> list[Path]:
    """Draw a photograph of each kind, and write it as a camera or a scanner would."""
    train = load("mnist", "train")
    rng = np.random.default_rng(SEED)
    paths = []
    for scene in ("photo", "lined", "shadow", "board", "sheet"):
        digit = train.images[int(rng.integers(len(train)))].numpy()
        # As a telephone's: 4:3.
        pixels = make_scene(digit, scene, rng, side=4000)[:3000]
        image = Image.fromarray((pixels * 255).round().astype(np.uint8))
        path = folder / f"{scene}.{kind.lower()}"
        image.save(path, kind, **({"quality": 90} if kind == "JPEG" else {"compress_level": 1}))
        paths.append(path)
    return paths if kind == "JPEG" else paths[:2]


def whole_folder(folder: Path, rounds: int) -> dict[str, Any]:
    """Return the rate at which a folder of ordinary pictures is read, and decoding's share."""
    train = load("mnist", "train")
    rng = np.random.default_rng(SEED)
    data = []
    for number in range(60):
        digit = train.images[int(rng.integers(len(train)))].numpy()
        pixels = make_scene(digit, KINDS[number % len(KINDS)], rng, side=1200)
        file = io.BytesIO()
        image = Image.fromarray((pixels * 255).round().astype(np.uint8))
        image.save(file, "JPEG", quality=90)
        data.append(file.getvalue())
    home = folder / "pictures"
    home.mkdir()
    for number, one in enumerate(data):
        (home / f"{number:03}.jpg").write_bytes(one)
    reader = Reader.from_pretrained()
    reader.read_digit(data[0])
    whole, decoding, walls = [], [], []
    for _ in range(max(1, rounds // 3)):
        begin = time.process_time()
        for one in data:
            reader.read_digit(one)
        middle = time.process_time()
        for one in data:
            read_picture(one)
        whole.append(1000 * (middle - begin) / len(data))
        decoding.append(1000 * (time.process_time() - middle) / len(data))
        walls.append(len(data) / _cold(home, folder)["wall_s"])
    return {
        "num_pictures": len(data),
        "longer_side": 1200,
        "cpu_ms": _spread(whole),
        "decode_cpu_ms": _spread(decoding),
        "decode_share": round(float(np.median(decoding) / np.median(whole)), 3),
        "pictures_per_s": _spread(walls),
    }


def _cold(path: Path, folder: Path) -> dict[str, float]:
    """Return what a process of its own used; its time is from outside, interpreter included."""
    usage = folder / "usage"
    command = [sys.executable, "-c", CHILD, str(usage), "predict", str(path)]
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    used: dict[str, float] = json.loads(usage.read_text())
    return used | {"wall_s": time.perf_counter() - begin}


def _spread(values: list[float]) -> dict[str, float]:
    found = np.percentile(values, [0, 25, 50, 75, 95])
    names = ("least", "quarter", "median", "three_quarters", "p95")
    return {"n": len(values)} | {
        name: round(float(v), 3) for name, v in zip(names, found, strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
