"""Strings of digits made from MNIST alone, seeded: what the error rate of reading them is of.

The paper's way (section VII.B): digits in a row, the gap between the boxes of neighbours from
-1 to 4 pixels, salt and pepper.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator


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
    gaps: tuple[int, int] = (-1, 4),
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
    crops = []
    for index in chosen:
        columns = np.nonzero(images[index].max(axis=0) > 64)[0]
        if not len(columns):
            columns = np.arange(images.shape[2])
        crops.append(images[index][:, columns[0] : columns[-1] + 1])
    gap = rng.integers(gaps[0], gaps[1] + 1, length)
    lifts = rng.integers(-1, 2, length)
    width = sum(c.shape[1] for c in crops) + sum(gap.tolist()[1:]) + 16
    canvas = np.zeros((40, width), np.uint8)
    owners = np.zeros((40, width), np.int32)
    x = 8
    for place, crop in enumerate(crops):
        x += int(gap[place]) if place else 0
        y = 6 + int(lifts[place])
        area = (slice(y, y + 28), slice(x, x + crop.shape[1]))
        owners[area] = np.where((crop > canvas[area]) & (crop > 64), place + 1, owners[area])
        canvas[area] = np.maximum(canvas[area], crop)
        x += crop.shape[1]
    for place in range(1, length):
        if rng.random() < ligatures:
            _join(canvas, owners, place, rng)
    if noise:
        dirty = rng.random(canvas.shape) < noise
        canvas[dirty] = rng.choice(np.array([0, 255], np.uint8), int(np.count_nonzero(dirty)))
    text = "".join(str(labels[index]) for index in chosen)
    return StringImage(image=canvas, text=text, owners=owners)


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
    dip, radius = rng.uniform(-1, 4), rng.uniform(0.7, 1.4)
    left, right = max(0, int(min(x0, x1)) - 3), int(max(x0, x1)) + 4
    view = canvas[:, left:right]
    y, x = np.mgrid[0 : canvas.shape[0], left : left + view.shape[1]]
    for t in np.linspace(0, 1, 16):
        cy = y0 + t * (y1 - y0) + 4 * dip * t * (1 - t)
        cx = x0 + t * (x1 - x0)
        cover = np.clip(radius + 0.5 - np.hypot(y - cy, x - cx), 0, 1)
        np.maximum(view, (255 * cover).astype(np.uint8), out=view)
