"""Strings of digits made from MNIST alone, seeded: what the error rate of reading them is of.

The paper's way (section VII.B): digits in a row, the gap between the boxes of neighbours from
-1 to 4 pixels, salt and pepper (`make_string`). And, to train on, as people write amounts of
money: slanted, with small zeros that hang together, dots and commas (`make_amount`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.reading.regions import dilate

Rng = np.random.Generator
Gaps = tuple[int, int]

SIDE = 28
MARK_SHARE = 0.2
"""Share of an amount's digits that a dot, comma or dash follows."""
STYLES: tuple[Gaps, ...] = ((-1, 4), (1, 7), (-3, 2), (-5, 0))
"""Of amounts: least and largest gap."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StringImage:
    """A picture of a string and where each digit's ink is."""

    image: NDArray[np.uint8]
    """(H, W), 0 = background, 255 = ink."""
    text: str
    owners: NDArray[np.int32]
    """(H, W): the place of the digit, from 1, that has most ink in a pixel; 0 for none."""


def make_string(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rng: Rng,
    *,
    length: int,
    gaps: Gaps = (-1, 4),
    noise: float = 0.0,
    ligatures: float = 0.0,
) -> StringImage:
    """Put random digits in a row.

    Args:
        images: (N, 28, 28) uint8 to draw from.
        labels: (N,) int64.
        rng: Decides which, and the rest.
        length: Number of digits.
        gaps: Least and largest number of pixels between the boxes of neighbours.
        noise: Share of pixels that become black or white.
        ligatures: Share of neighbours that a stroke joins.
    """
    chosen = rng.integers(0, len(images), length)
    crops = [_crop(images[index]) for index in chosen]
    gap = rng.integers(gaps[0], gaps[1] + 1, length)
    lifts = rng.integers(-1, 2, length)
    canvas, owners = _set(crops, gap, lifts)
    for place in range(1, length):
        if rng.random() < ligatures:
            _join(canvas, owners, place, rng)
    if noise:
        dirty = rng.random(canvas.shape) < noise
        canvas[dirty] = rng.choice(np.array([0, 255], np.uint8), int(np.count_nonzero(dirty)))
    text = "".join(str(labels[index]) for index in chosen)
    return StringImage(image=canvas, text=text, owners=owners)


def make_amount(
    images: NDArray[np.uint8], labels: NDArray[np.int64], rng: Rng, *, length: int
) -> StringImage:
    """Write random digits as people write amounts of money.

    Args:
        images: (N, 28, 28) uint8 to draw from.
        labels: (N,) int64.
        rng: Decides which, and how they are written.
        length: Number of digits.
    """
    chosen = rng.integers(0, len(images), length)
    zeros, others = rng.uniform(0.5, 1.0), rng.uniform(0.8, 1.0)
    crops = []
    for index in chosen:
        size = (zeros if labels[index] == 0 else others) * rng.uniform(0.9, 1.1)
        crops.append(_crop(images[index], size))
    style = STYLES[rng.integers(len(STYLES))]
    # On one line, more or less: what is smaller stands lower.
    lifts = np.array([(SIDE - len(crop)) * 0.75 for crop in crops]) + rng.uniform(-2, 2, length)
    canvas, owners = _set(
        crops, rng.integers(style[0], style[1] + 1, length), lifts.round().astype(np.int64)
    )
    ligatures = rng.choice([0.0, 0.4, 0.8])
    for place in range(1, length):
        if rng.random() < ligatures:
            _join(canvas, owners, place, rng)
    for place in range(1, length + 1):
        if rng.random() < MARK_SHARE:
            _punctuate(canvas, owners, place, rng)
    grown = rng.uniform(-0.5, 1.0)
    if grown > 0:
        canvas = dilate(canvas.astype(np.float32), grown).astype(np.uint8)
    else:
        canvas = 255 - dilate(255 - canvas.astype(np.float32), -grown)
    slant = rng.uniform(-0.1, 0.6)
    canvas, owners = _slant(canvas, slant), _slant(owners, slant)
    if rng.random() < 0.5:
        grain = rng.normal(0, rng.uniform(5, 25), canvas.shape)
        canvas = np.clip(255 - (255 - canvas) * rng.uniform(0.5, 1) + grain - 40, 0, 255)
    text = "".join(str(labels[index]) for index in chosen)
    return StringImage(image=canvas.astype(np.uint8), text=text, owners=owners)


def _crop(image: NDArray[np.uint8], size: float = 1.0) -> NDArray[np.uint8]:
    """Cut a digit out between its first and its last column, all rows, and resize it."""
    columns = np.nonzero(image.max(axis=0) > 64)[0]
    if not len(columns):
        columns = np.arange(image.shape[1])
    crop = image[:, columns[0] : columns[-1] + 1]
    if size == 1.0:
        return crop
    shape = max(1, round(crop.shape[1] * size)), max(1, round(crop.shape[0] * size))
    resized: NDArray[np.uint8] = np.asarray(
        Image.fromarray(np.ascontiguousarray(crop)).resize(shape, Image.Resampling.BILINEAR)
    )
    return resized


def _set(
    crops: list[NDArray[np.uint8]], gaps: NDArray[np.int64], lifts: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Put digits side by side: a canvas, and whose ink is where."""
    width = sum(c.shape[1] for c in crops) + sum(gaps.tolist()[1:]) + 16
    canvas = np.zeros((40, width), np.uint8)
    owners = np.zeros((40, width), np.int32)
    x = 8
    for place, crop in enumerate(crops):
        x = max(0, x + (int(gaps[place]) if place else 0))
        y = max(0, min(40 - len(crop), 6 + int(lifts[place])))
        area = (slice(y, y + len(crop)), slice(x, x + crop.shape[1]))
        owners[area] = np.where((crop > canvas[area]) & (crop > 64), place + 1, owners[area])
        canvas[area] = np.maximum(canvas[area], crop)
        x += crop.shape[1]
    return canvas, owners


def _punctuate(canvas: NDArray[np.uint8], owners: NDArray[np.int32], place: int, rng: Rng) -> None:
    """Draw a dot, a comma or a dash to the right of a digit; it belongs to none."""
    own = owners == place
    if not own.any():
        return
    right = np.nonzero(own.any(axis=0))[0][-1] + rng.uniform(0, 4)
    rows = np.nonzero(own.any(axis=1))[0]
    kind = rng.integers(3)
    y = float(rows[-1]) - rng.uniform(-1, 3) - (rng.uniform(4, 10) if kind == 2 else 0)
    dx, dy = ((0.5, 0.5), (-rng.uniform(0, 4), rng.uniform(2, 7)), (rng.uniform(3, 9), 0.5))[kind]
    _stroke(canvas, y, right, y + dy, right + dx, 0.0, rng.uniform(0.8, 1.8))


def _slant(values: NDArray[Any], slant: float) -> NDArray[Any]:
    """Move each row sideways, the upper ones to the right."""
    height = len(values)
    margin = round(abs(slant) * height / 2) + 1
    padded = np.pad(values, ((0, 0), (margin, margin)))
    for y in range(height):
        padded[y] = np.roll(padded[y], round((height / 2 - y) * slant))
    return padded


def _join(canvas: NDArray[np.uint8], owners: NDArray[np.int32], place: int, rng: Rng) -> None:
    """Draw a stroke from a digit's right to the next one's left; it belongs to neither."""
    a, b = owners == place, owners == place + 1
    if not a.any() or not b.any():
        return
    ends = []
    for own, side in ((a, -1), (b, 0)):
        rows = np.nonzero(own.any(axis=1))[0]
        # Mostly near the top, where zeros are joined.
        row = rows[int(len(rows) * rng.uniform(0.0, 0.6) ** 1.5)]
        ends.append((float(row), float(np.nonzero(own[row])[0][side])))
    (y0, x0), (y1, x1) = ends
    _stroke(canvas, y0, x0, y1, x1, rng.uniform(-1, 4), rng.uniform(0.7, 1.4))


def _stroke(
    canvas: NDArray[np.uint8],
    y0: float,
    x0: float,
    y1: float,
    x1: float,
    dip: float,
    radius: float,
) -> None:
    """Draw from one point to another, `dip` rows lower in the middle."""
    left, right = max(0, int(min(x0, x1)) - 3), int(max(x0, x1)) + 4
    view = canvas[:, left:right]
    y, x = np.mgrid[0 : canvas.shape[0], left : left + view.shape[1]]
    for t in np.linspace(0, 1, 16):
        cy = y0 + t * (y1 - y0) + 4 * dip * t * (1 - t)
        cx = x0 + t * (x1 - x0)
        cover = np.clip(radius + 0.5 - np.hypot(y - cy, x - cx), 0, 1)
        np.maximum(view, (255 * cover).astype(np.uint8), out=view)
