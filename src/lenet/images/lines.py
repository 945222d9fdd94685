"""Find ruled lines in a mask of ink and take them out, sparing the strokes that cross them."""

import numpy as np
from numpy.typing import NDArray

from lenet.images.regions import Mask

SLOPES = np.linspace(-0.1, 0.1, 41)
"""Rows per column that are tried."""
MIN_COVER = 0.5
"""Share of the columns that a line's ink must cover."""
MARGIN = 0.1
"""A line begins and ends within this share of the width from the picture's sides."""


def remove_lines(mask: Mask) -> Mask:
    """Return a mask without its ruled lines, horizontal and vertical."""
    rows = _lines(mask, MIN_COVER)
    # Upright strokes of several lines of writing may lie in one column.
    columns = _lines(mask.T, 1.5 * MIN_COVER).T
    found: Mask = rows | columns
    return mask & ~found if found.any() else mask


def _lines(mask: Mask, cover: float) -> Mask:
    """Return the pixels of nearly horizontal lines that nothing crosses."""
    width = mask.shape[1]
    found = np.zeros_like(mask)
    y, x = np.nonzero(mask)
    if len(y) < cover * width:
        return found
    x_off = x - width / 2
    tilt = int(0.05 * width) + 2
    best, best_slope = 0, 0.0
    for slope in SLOPES:
        counts = np.bincount((y - slope * x_off + tilt).round().astype(np.int64))
        if counts.max() > best:
            best, best_slope = int(counts.max()), float(slope)
    if best < cover * width:
        return found
    level = (y - best_slope * x_off + tilt).round().astype(np.int64)
    counts = np.bincount(level)
    for top, bottom in _bands(counts, width, cover):
        chosen = (level >= top) & (level <= bottom)
        across = x[chosen]
        if across.min() > MARGIN * width or across.max() < (1 - MARGIN) * width:
            continue
        _erase(mask, found, best_slope, top - tilt, bottom - tilt)
    return found


def _bands(counts: NDArray[np.int64], width: int, cover: float) -> list[tuple[int, int]]:
    """Return the first and last level of each line: a peak, and what belongs to its thickness."""
    bands, level = [], 0
    while level < len(counts):
        if counts[level] < cover * width:
            level += 1
            continue
        top = bottom = level
        while top > 0 and counts[top - 1] > 0.2 * width:
            top -= 1
        while bottom + 1 < len(counts) and counts[bottom + 1] > 0.2 * width:
            bottom += 1
        # Thicker than this it is no ruled line.
        if bottom - top < max(4, 0.04 * width):
            bands.append((top, bottom))
        level = bottom + 1
    return bands


def _erase(mask: Mask, found: Mask, slope: float, top: int, bottom: int) -> None:
    """Mark a line's pixels, but where a stroke goes on above and below it."""
    height, width = mask.shape
    x = np.arange(width)
    first = (top - 1 + slope * (x - width / 2)).round().astype(np.int64)
    count = bottom - top + 3
    above, below = np.zeros(width, np.bool_), np.zeros(width, np.bool_)
    for step in (1, 2):
        for side, y in ((above, first - step), (below, first + count - 1 + step)):
            inside = (y >= 0) & (y < height)
            side[inside] |= mask[y[inside], x[inside]]
    # A slanted stroke leaves the line some columns from where it entered.
    reach = count
    crossed = _widen(above, reach) & _widen(below, reach)
    for step in range(count):
        y = first + step
        chosen = (y >= 0) & (y < height) & ~crossed
        found[y[chosen], x[chosen]] = True


def _widen(flags: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.convolve(flags, np.ones(2 * reach + 1), mode="same") > 0
    return near
