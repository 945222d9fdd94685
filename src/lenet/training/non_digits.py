"""Images of what is no digit, to train the garbage class on: letters, marks, scribbles, shapes.

Each is fitted into 28x28 as a digit is. Letters come from the fonts that matplotlib brings along;
those that look like digits (b, D, I, l, o, O, q, s, S, z) are left out.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lenet.data.digits import Digits
from lenet.reading.normalize import to_mnist

Ink = NDArray[np.float64]
"""(H, W) in [0, 1]."""
Rng = np.random.Generator

SEED = 1998
"""Fixed and apart from a run's seed: all runs train on the same images."""
CHARACTERS = "AACEEFFGHHJKKLMMNNPRRTTUVVWWXXYacdefhkmnprtuvwxyBZ&%#@?!+=*$<>~^{}"
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique",
    "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral",
    "STIXGeneralBol", "STIXGeneralBolIta", "STIXGeneralItalic", "cmr10", "cmss10", "cmti10",
    "cmtt10",
)  # fmt: skip
SIDE = 200
"""Of the canvas that scribbles and shapes are drawn on."""


def draw_non_digits(num_images: int, digits: Digits | None = None) -> Tensor:
    """Return (num_images, 28, 28) uint8, the same for the same arguments.

    Args:
        num_images: How many, of all kinds.
        digits: Of which pairs and triples are made, too.
    """
    rng = np.random.default_rng(SEED)
    kinds: list[tuple[Callable[[], Ink], float]] = [
        (lambda: _character(rng), 0.42),
        (lambda: _scribble(rng), 0.14),
        (lambda: _shapes(rng), 0.12),
        (lambda: _mark(rng), 0.07),
        (lambda: _frame(rng), 0.04),
        (lambda: _specks(rng), 0.03),
    ]
    if digits is not None:
        kinds.append((lambda: _several_digits(digits, rng), 0.18))
    shares = np.array([share for _, share in kinds])
    shares /= shares.sum()
    images: list[NDArray[np.uint8]] = []
    while len(images) < num_images:
        ink = kinds[rng.choice(len(kinds), p=shares)][0]()
        mask = ink > 0.3
        if np.count_nonzero(mask) >= 6:
            images.append(to_mnist(ink.astype(np.float32), mask))
    return torch.from_numpy(np.stack(images))


def add_non_digits(digits: Digits, num_images: int) -> Digits:
    """Return training images with such images behind them, as one class more: garbage."""
    images = draw_non_digits(num_images, digits)
    labels = torch.full((num_images,), len(digits.classes))
    return Digits(
        images=torch.cat([digits.images, images]),
        labels=torch.cat([digits.labels, labels]),
        name=digits.name,
        split=digits.split,
        classes=(*digits.classes, "garbage"),
    )


def _character(rng: Rng) -> Ink:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    font = ImageFont.truetype(folder / f"{rng.choice(FONTS)}.ttf", 64)
    canvas, pen = _canvas()
    pen.text((70, 60), str(rng.choice(list(CHARACTERS))), fill=255, font=font)
    shear = rng.uniform(-0.3, 0.3)
    canvas = canvas.rotate(rng.uniform(-12, 12), resample=Image.Resampling.BILINEAR)
    canvas = canvas.transform(
        canvas.size,
        Image.Transform.AFFINE,
        (1, shear, -shear * SIDE / 2, 0, 1, 0),
        resample=Image.Resampling.BILINEAR,
    )
    return _ink(canvas)


def _several_digits(digits: Digits, rng: Rng) -> Ink:
    """Return two or three digits side by side."""
    count = 2 if rng.random() < 0.75 else 3
    gap = int(rng.integers(-1, 7))
    canvas = np.zeros((32, 40 * count))
    x = 4
    for index in rng.integers(0, len(digits), count):
        image = digits.images[index].numpy() / 255
        columns = np.nonzero(image.max(axis=0) > 0.25)[0]
        if not len(columns):
            continue
        crop = image[:, columns[0] : columns[-1] + 1]
        y = int(rng.integers(0, 5))
        area = canvas[y : y + crop.shape[0], x : x + crop.shape[1]]
        np.maximum(area, crop, out=area)
        x += crop.shape[1] + gap
    return canvas


def _scribble(rng: Rng) -> Ink:
    """Return a line that wanders at random, with corners or without."""
    count = int(rng.integers(5, 16))
    points = np.cumsum(rng.normal(0, 1, (count, 2)), axis=0)
    points -= points.min(axis=0)
    points = points / max(1e-6, points.max()) * (SIDE - 50) + 25
    if rng.random() < 0.5:
        places = np.linspace(0, count - 1, 8 * count)
        points = np.stack([np.interp(places, np.arange(count), axis) for axis in points.T], axis=1)
        padded = np.pad(points, ((4, 4), (0, 0)), mode="edge")
        points = np.lib.stride_tricks.sliding_window_view(padded, 9, axis=0).mean(axis=2)
    canvas, pen = _canvas()
    pen.line(
        [(x, y) for x, y in points.tolist()],
        fill=255,
        width=int(rng.integers(6, 14)),
        joint="curve",
    )
    return _ink(canvas)


def _shapes(rng: Rng) -> Ink:
    """Return rectangles, triangles and stars."""
    canvas, pen = _canvas()
    width = int(rng.integers(5, 14))
    for _ in range(rng.integers(1, 4)):
        (x, y), size = rng.uniform(40, 160, 2), rng.uniform(25, 60)
        kind, start = rng.integers(3), rng.uniform(0, 2 * np.pi)
        if kind == 0:
            low = size * rng.uniform(0.5, 1)
            pen.rectangle((x - size, y - low, x + size, y + low), outline=255, width=width)
            continue
        # A triangle has corners a third of a turn apart, a star two fifths.
        turns = start + np.arange(4) * 2 * np.pi / 3 if kind == 1 else start + np.arange(6) * 2.513
        corners = np.stack([x + size * np.cos(turns), y + size * np.sin(turns)], axis=1)
        pen.line([(a, b) for a, b in corners.tolist()], fill=255, width=width, joint="curve")
    return _ink(canvas)


def _mark(rng: Rng) -> Ink:
    """Return a dot, a comma or a dash."""
    y, x = np.mgrid[0:60, 0:60] - 30.0
    if rng.random() < 0.5:
        squeeze, turn = rng.uniform(0.6, 1.6), rng.uniform(0, np.pi)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        mask = np.hypot(u * squeeze, v) < rng.uniform(8, 18)
    else:
        slope, bend = rng.uniform(-0.25, 0.25), rng.uniform(-0.008, 0.008)
        mask = np.abs(y - slope * x - bend * x * x) < rng.uniform(1.5, 5)
        mask &= np.abs(x) < rng.uniform(18, 29)
    ink: Ink = mask.astype(np.float64)
    return ink


def _frame(rng: Rng) -> Ink:
    """Return two to four sides of a cell of a form."""
    (left, top), (right, bottom) = rng.uniform(5, 40, 2), rng.uniform(160, 195, 2)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    first, count, width = rng.integers(4), rng.integers(2, 5), int(rng.integers(3, 14))
    canvas, pen = _canvas()
    for side in range(first, first + count):
        pen.line([corners[side % 4], corners[(side + 1) % 4]], fill=255, width=width)
    return _ink(canvas)


def _specks(rng: Rng) -> Ink:
    ink = np.zeros((60, 60))
    y, x = np.mgrid[0:60, 0:60]
    for _ in range(rng.integers(2, 9)):
        row, column = rng.uniform(4, 56, 2)
        distance = np.hypot(y - row, (x - column) * rng.uniform(0.5, 2))
        np.maximum(ink, np.clip(rng.uniform(1.2, 4) - distance, 0, 1), out=ink)
    return ink


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("L", (SIDE, SIDE), 0)
    return canvas, ImageDraw.Draw(canvas)


def _ink(canvas: Image.Image) -> Ink:
    return np.asarray(canvas) / 255
