"""Find ruled lines and take them out, sparing the strokes that cross them."""

import numpy as np
from numpy.typing import NDArray

from lenet.reading.regions import Grey, Mask

SLOPES = sorted(np.linspace(-0.1, 0.1, 41).tolist(), key=abs)
"""Rows per column that are tried; of those that do equally well, the first counts."""
MIN_COVER = 0.5
"""Share of the columns that a line's ink must cover, for one digit."""
MARGIN = 0.01
"""A line begins and ends within this share of the width from the picture's sides."""
PRESENT = 0.85
"""Share of the columns in which a line under writing is seen; feet of digits are seen in fewer."""


def fade_lines(strength: Grey, least: float) -> Grey:
    """Return ink without the rulings that run under writing from side to side.

    What is in most columns of a level is the ruling, and is taken off all of the level: a stroke
    that crosses it is stronger and stays. Unlike in a mask, a fainter ruling is whole here.

    Args:
        strength: (H, W) ink.
        least: Fainter rulings are left.
    """
    height, width = strength.shape
    step = max(1, width // 256)
    x = np.arange(0, width, step)
    tilt = round(0.05 * width) + 1
    padded = np.pad(strength, ((tilt, tilt), (0, 0)), mode="edge")
    rows = np.arange(height)[:, None] + tilt
    rank = int((1 - PRESENT) * len(x))
    best, best_slope = np.zeros(height), 0.0
    for slope in SLOPES:
        levels = padded[rows + (slope * (x - width / 2)).round().astype(np.int64), x]
        profile = np.partition(levels, rank, axis=1)[:, rank]
        if profile.max() > best.max():
            best, best_slope = profile, slope
    if best.max() < least:
        return strength
    # The outermost rows of a ruling are half as strong.
    wide = np.convolve(best > max(least, 0.5 * best.max()), np.ones(3), mode="same") > 0
    shifts = (best_slope * (np.arange(width) - width / 2)).round().astype(np.int64)
    levels = padded[rows + shifts, np.arange(width)]
    ruling = np.where(wide, np.quantile(levels, 0.4, axis=1), 0)
    level = np.clip(np.arange(height)[:, None] - shifts, 0, height - 1)
    result: Grey = (strength - ruling[level]).astype(np.float32)
    return result


def remove_lines(mask: Mask, cover: float = MIN_COVER) -> Mask:
    """Return a mask without its ruled lines, horizontal and vertical.

    Args:
        mask: (H, W).
        cover: Share of the columns that a line's ink must cover.
    """
    rows = _lines(mask, cover)
    # Upright strokes of several lines of writing may lie in one column.
    columns = _lines(np.ascontiguousarray(mask.T), min(0.9, 1.5 * cover)).T
    found: Mask = rows | columns
    return mask & ~found if found.any() else mask


def _lines(mask: Mask, cover: float) -> Mask:
    """Return the pixels of nearly horizontal lines that nothing crosses."""
    width = mask.shape[1]
    found = np.zeros_like(mask)
    margin = max(1, round(MARGIN * width))
    if not (mask[:, :margin].any() and mask[:, -margin:].any()):
        return found
    y, x = np.nonzero(mask)
    if len(y) < cover * width:
        return found
    x_off = x - width / 2
    tilt = int(0.05 * width) + 2
    best, best_slope = 0, 0.0
    for slope in SLOPES:
        counts = np.bincount((y - slope * x_off + tilt).round().astype(np.int64))
        if counts.max() > best:
            best, best_slope = int(counts.max()), slope
    if best < cover * width:
        return found
    level = (y - best_slope * x_off + tilt).round().astype(np.int64)
    counts = np.bincount(level)
    for top, bottom in _bands(counts, width, cover):
        chosen = (level >= top) & (level <= bottom)
        across = x[chosen]
        if across.min() >= margin or across.max() < width - margin:
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
