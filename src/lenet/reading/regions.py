"""Plain operations on grey pictures that the steps of normalization are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_REGIONS = 1000
"""The heaviest are kept: noise falls into a hundred thousand, and what follows compares each with
each. The most in a picture of the trials was 800, a pencil's on coarse paper."""

Grey = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A connected piece of a mask."""

    label: int
    top: int
    left: int
    bottom: int
    """One past the last row."""
    right: int
    """One past the last column."""
    area: int
    """Number of pixels."""
    weight: float
    """Sum of the ink in it."""
    peak: float
    """Largest ink in it."""

    @property
    def height(self) -> int:
        """Rows of the box."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns of the box."""
        return self.right - self.left

    @property
    def size(self) -> int:
        """Longer side of the box."""
        return max(self.height, self.width)


def smooth3(values: Grey) -> Grey:
    """Return (H, W) values weighted 1, 2, 1 with their neighbours along each axis."""
    padded = np.pad(values, 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    result: Grey = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) * np.float32(1 / 16)
    return result


def dilate(values: Grey, radius: float) -> Grey:
    """Return the largest value within `radius` pixels; between two radii, a mixture."""
    whole = int(radius)
    inner = _dilate_disc(values, whole)
    if radius == whole:
        return inner
    outer = _dilate_disc(values, whole + 1)
    mixed: Grey = inner + np.float32(radius - whole) * (outer - inner)
    return mixed


def _dilate_disc(values: Grey, radius: int) -> Grey:
    if radius == 0:
        return values
    height, width = values.shape
    padded = np.pad(values, radius)
    result = values.copy()
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx <= (radius + 0.3) ** 2:
                y, x = radius + dy, radius + dx
                np.maximum(result, padded[y : y + height, x : x + width], out=result)
    return result


def label_regions(mask: Mask, ink: Grey) -> tuple[NDArray[np.int32], list[Region]]:
    """Find the connected pieces of a mask, diagonal neighbours included.

    Returns:
        (H, W) int32, 0 outside, and the regions with labels from 1, topmost first; of more than
        `MAX_REGIONS` the heaviest.
    """
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    # Runs of the mask, row by row.
    rows, starts = np.divmod(np.flatnonzero(edges == 1), width + 1)
    ends = np.flatnonzero(edges == -1) % (width + 1)
    labels = np.zeros((height, width), np.int32)
    if len(rows) == 0:
        return labels, []
    parents = _join_runs(rows, starts, ends)
    numbers = np.unique(parents, return_inverse=True)[1].astype(np.int32) + 1
    # The mask's pixels, row by row, are those of the runs one after the other.
    owners = np.repeat(numbers, ends - starts)
    labels[mask] = owners
    inked = ink[mask]
    count = int(numbers.max()) + 1
    top, bottom = np.full(count, height), np.zeros(count, np.int64)
    left, right = np.full(count, width), np.zeros(count, np.int64)
    np.minimum.at(top, numbers, rows)
    np.maximum.at(bottom, numbers, rows + 1)
    np.minimum.at(left, numbers, starts)
    np.maximum.at(right, numbers, ends)
    area = np.bincount(owners, minlength=count)
    weight = np.bincount(owners, weights=inked, minlength=count)
    peak = np.zeros(count, np.float32)
    np.maximum.at(peak, owners, inked)
    kept = np.arange(1, count)
    if len(kept) > MAX_REGIONS:
        kept = np.sort(np.argsort(-weight[1:], kind="stable")[:MAX_REGIONS] + 1)
    regions = [
        Region(
            label=k,
            top=int(top[k]),
            left=int(left[k]),
            bottom=int(bottom[k]),
            right=int(right[k]),
            area=int(area[k]),
            weight=float(weight[k]),
            peak=float(peak[k]),
        )
        for k in kept.tolist()
    ]
    return labels, regions


def _join_runs(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return for each run the first run of its piece."""
    # Runs of neighbouring rows touch if each starts no later than the other ends. For each run,
    # those of the row above that do so are consecutive.
    stride = int(ends.max()) + 2
    first = np.searchsorted(rows * stride + ends, (rows - 1) * stride + starts, side="left")
    last = np.searchsorted(rows * stride + starts, (rows - 1) * stride + ends, side="right")
    counts = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(rows)), counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    above = np.repeat(first, counts) + offsets
    parents = np.arange(len(rows))
    while True:
        # Each piece takes the smallest number among its neighbours', then of its own parent.
        before = parents.copy()
        a, b = parents[above], parents[below]
        low = np.minimum(a, b)
        np.minimum.at(parents, a, low)
        np.minimum.at(parents, b, low)
        np.minimum.at(parents, above, low)
        np.minimum.at(parents, below, low)
        parents = parents[parents]
        if np.array_equal(parents, before):
            return parents


def stroke_width(mask: Mask) -> float:
    """Return the mean width of the strokes of a mask, in pixels; 0 of an empty one."""
    area = int(mask.sum())
    if area == 0:
        return 0.0
    # A stroke of length L and width w has area L w and an outline of 2 L. Pixels' sides
    # overstate the length of a slanted outline, by 4 / pi on average over directions.
    padded = np.pad(mask, 1)
    sides = sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in (0, 1))
    return 2 * area / (sides * np.pi / 4)
