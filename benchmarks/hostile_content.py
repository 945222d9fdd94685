"""Pictures of a size that anyone may have, with more on them than anyone writes."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lenet.images.decode import MAX_SIDE

SEED = 6


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def hostile_content() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield what each picture is, and what makes its file."""
    y, x = np.mgrid[0:MAX_SIDE, 0:MAX_SIDE]
    rng = np.random.default_rng(SEED)
    grey = rng.integers(0, 256, (MAX_SIDE, MAX_SIDE), dtype=np.uint8)
    drawn = {
        "noise": grey,
        "black and white noise": (grey > 127) * 255,
        "black and white noise, a tenth black": (grey > 25) * 255,
        "a chessboard of single pixels": (x + y) % 2 * 255,
        "a chessboard of 12 pixels": (x // 12 + y // 12) % 2 * 255,
        "36,864 dots": 255 - (x % 4 < 2) * (y % 4 < 2) * 255,
        "9,216 blobs": 255 - ((x % 8 - 4) ** 2 + (y % 8 - 4) ** 2 < 9) * 255,
        "384 bars from top to bottom": x % 2 * 255,
        "64 bars from top to bottom": (x % 12 > 3) * 255,
        "a spiral": _spiral(),
        "4,096 rings": 255 - ((x % 12 < 10) * (y % 12 < 10)) * 255
        + ((x % 12 > 1) * (x % 12 < 8) * (y % 12 > 1) * (y % 12 < 8)) * 255,
        "60 lines of 190 bars": _bars(60, 190),
        "10 lines of 60 bars": _bars(10, 60),
        "one line of 190 bars": _bars(1, 190),
    }  # fmt: skip
    for name, pixels in drawn.items():
        yield (
            name,
            lambda pixels=pixels: encode(  # type: ignore[misc]
                Image.fromarray(np.asarray(pixels).astype(np.uint8)), "PNG"
            ),
        )
    for name, size in (("a single pixel", (1, 1)), ("1 x 5,000 pixels", (1, 5000))):
        yield name, lambda size=size: encode(Image.new("L", size, 7), "PNG")  # type: ignore[misc]


def _spiral() -> np.ndarray[Any, Any]:
    image = Image.new("L", (MAX_SIDE, MAX_SIDE), 255)
    points = []
    left, top, right, bottom = 2, 2, MAX_SIDE - 3, MAX_SIDE - 3
    while left < right and top < bottom:
        points += [(left, top), (right, top), (right, bottom), (left, bottom)]
        left, top, right, bottom = left + 4, top + 4, right - 4, bottom - 4
        points.append((left - 4, top))
    ImageDraw.Draw(image).line(points, fill=0, width=2)
    return np.asarray(image)


def _bars(num_lines: int, num_bars: int) -> np.ndarray[Any, Any]:
    page = np.full((MAX_SIDE, MAX_SIDE), 255, np.uint8)
    tall, apart = 760 // num_lines, 760 // num_bars
    for line in range(num_lines):
        top = 4 + line * tall
        for bar in range(num_bars):
            page[top : top + max(7, tall // 2), 4 + bar * apart] = 0
    return page
