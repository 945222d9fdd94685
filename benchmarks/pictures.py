"""Measure what hostile and large pictures cost `lenet predict` and `lenet read`.

Run: `.venv/bin/python benchmarks/pictures.py`. Linux alone: the peak of memory is the kernel's.

Each file is read by a process of its own, which may take 10 s of the processor and 1 GB. Also
measures a photograph of 12 megapixels, with the start of the program and without. Writes
benchmarks/results/pictures.json and exits with 1 if a limit was passed.
"""

import io
import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lenet.images.decode import MAX_JPEG_PIXELS, MAX_PIXELS, read_picture
from lenet.reader import Reader
from lenet.records import environment

ROOT = Path(__file__).resolve().parent.parent
MAX_S, MAX_MB = 10.0, 1000.0
ROUNDS = 30
CHILD = """
import json, pathlib, sys, time
from lenet.cli import main
status = main(sys.argv[2:])
# The peak of this program alone; that of wait4 begins with its parent's.
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
peak_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
used = {"seconds": round(time.process_time(), 2), "peak_mb": round(peak_kb / 1000, 1)}
pathlib.Path(sys.argv[1]).write_text(json.dumps(used))
sys.exit(status)
"""
SEED = 6


def main() -> int:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            name: run_alone(name, data, verb, Path(folder)) for name, verb, data in hostile_files()
        }
    found = {"hostile": rows, "photograph": photograph(), "environment": environment()}
    target = ROOT / "benchmarks" / "results" / "pictures.json"
    target.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(found["photograph"]))
    passed = [n for n, row in rows.items() if row["seconds"] > MAX_S or row["peak_mb"] > MAX_MB]
    print(f"{len(rows)} files, over the limits: {passed}", file=sys.stderr)
    return 1 if passed else 0


def run_alone(name: str, data: bytes, verb: str, folder: Path) -> dict[str, Any]:
    """Read one file in a process of its own; return its answer, processor time and peak memory."""
    path = folder / "picture"
    path.write_bytes(data)
    usage = folder / "usage"
    usage.unlink(missing_ok=True)
    command = [sys.executable, "-c", CHILD, str(usage), verb, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode not in (0, 1) or len(lines) != 1:
        raise AssertionError(f"{name}: expected one line, found {lines[-5:]}")
    answer = "read" if done.returncode == 0 else lines[0].removeprefix(f"error: {path}: ")
    row = {"answer": answer if len(answer) < 90 else answer[:87] + "..."}
    row |= json.loads(usage.read_text())
    print(name, row, file=sys.stderr)
    return row


def hostile_files() -> Iterator[tuple[str, str, bytes]]:
    """Yield what each file is, the verb that reads it, and its bytes."""
    side = int(MAX_PIXELS**0.5)
    rng = np.random.default_rng(SEED)
    yield "PNG that claims 65,535 x 65,535 pixels", "predict", png_of(65_535, 8)
    yield "PNG of 1.6 gigapixels in 1 bit", "predict", png_of(40_000, 1)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 * 10**6), 9))
    yield "PNG with 200 MB of text in 200 kB", "predict", png_of(28, 8, text)
    yield (
        "PNG, the largest that is decoded, transparent",
        "predict",
        encode(Image.new("RGBA", (side, side), (0, 0, 0, 10)), "PNG", compress_level=1),
    )
    jpeg_side = int(MAX_JPEG_PIXELS**0.5)
    grey = Image.new("L", (jpeg_side, jpeg_side), 200)
    yield "JPEG, the largest that is decoded", "predict", encode(grey, "JPEG")
    small = Image.new("RGB", (5000, 5000), (200, 190, 180))
    progressive = encode(small, "JPEG", progressive=True)
    yield "JPEG of 25 megapixels in 10 scans", "predict", progressive
    yield "the same with 5,000 more scans", "predict", progressive[:-2] + b"\xff\xda" * 5000
    yield "GIF of 3,000 frames", "predict", gif_of(3000)
    yield "TIFF of 16 bits, 8,000 x 8,000", "predict", tiff_of(8000)
    yield "WebP of 64 megapixels", "predict", encode(grey.resize((side, side)), "WEBP", method=0)
    yield "BMP cut off in the middle", "predict", encode(small, "BMP")[:40_000_000]
    noise = rng.integers(0, 256, (768, 768), dtype=np.uint8)
    yield "noise", "predict", encode(Image.fromarray(noise), "PNG")
    yield "noise, read as a number", "read", encode(Image.fromarray(noise), "PNG")
    yield "a chessboard of single pixels, as a number", "read", chessboard(768, 1)
    yield "a chessboard, as a number", "read", chessboard(768, 12)
    yield "60 lines of 190 bars, as a number", "read", bars()
    yield "a line of 1 x 5,000 pixels", "read", encode(Image.new("L", (5000, 1), 7), "PNG")
    yield "a single pixel", "predict", encode(Image.new("L", (1, 1), 7), "PNG")
    yield "random bytes", "predict", rng.bytes(10_000_000)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a piece of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(side: int, depth: int, *more: bytes) -> bytes:
    """Return a PNG whose header claims that size."""
    head = struct.pack(">IIBBBBB", side, side, depth, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(side * side // 8 if side < 40_001 else 100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + body + chunk(b"IEND", b"")


def gif_of(num_frames: int) -> bytes:
    """Return an animation."""
    frames = [Image.new("P", (64, 64), i % 256) for i in range(num_frames)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


def tiff_of(side: int) -> bytes:
    """Return a grey picture of 16 bits."""
    return encode(Image.fromarray(np.full((side, side), 40_000, np.uint16)), "TIFF")


def chessboard(side: int, square: int) -> bytes:
    """Return black and white squares."""
    y, x = np.mgrid[0:side, 0:side] // square
    return encode(Image.fromarray(((x + y) % 2 * 255).astype(np.uint8)), "PNG")


def bars() -> bytes:
    """Return a page with as many ones as fit."""
    image = Image.new("L", (768, 768), 255)
    pen = ImageDraw.Draw(image)
    for y in range(4, 760, 12):
        for x in range(4, 760, 4):
            pen.line((x, y, x, y + 7), fill=0)
    return encode(image, "PNG")


def photograph() -> dict[str, Any]:
    """Return the time of a photograph of 12 megapixels, alone and as one of many."""
    rng = np.random.default_rng(SEED)
    paper = Image.fromarray(
        (205 + np.linspace(-30, 20, 4000)[None] + np.zeros((3000, 1))).astype(np.uint8)
    ).convert("RGB")
    pen = ImageDraw.Draw(paper)
    pen.line([(1500, 900), (2400, 900), (1900, 2100)], fill=(30, 30, 60), width=30)
    grainy = np.asarray(paper).astype(np.float32) + rng.normal(0, 6, (3000, 4000, 1))
    data = encode(Image.fromarray(grainy.clip(0, 255).astype(np.uint8)), "JPEG", quality=90)
    reader = Reader.from_pretrained()
    assert reader.read_digit(data).label == "7"
    warm, decode = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        reader.read_digit(data)
        warm.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        read_picture(data)
        decode.append(time.perf_counter() - begin)
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        cold = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "lenet", "predict", file.name],
                check=True,
                capture_output=True,
            )
            cold.append(time.perf_counter() - begin)
    return {
        "megapixels": 12,
        "rounds": ROUNDS,
        "cold_s": round(median(cold), 3),
        "warm_s": round(median(warm), 4),
        "fastest_s": round(min(warm), 4),
        "decode_s": round(median(decode), 4),
    }


if __name__ == "__main__":
    sys.exit(main())
