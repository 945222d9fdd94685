"""From a picture of writing to its lines, each put upright, as connected pieces of ink."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.reading.foreign import find_foreign
from lenet.reading.lines import fade_lines, remove_lines
from lenet.reading.normalize import MIN_SIGMAS, strongest
from lenet.reading.paper import MIN_CONTRAST, SMALL, find_ink, resize_grey
from lenet.reading.regions import Grey, Mask, Region, label_regions

COARSE = 400
"""Pictures with sides shorter than this are enlarged twofold: digits of 30 pixels have outlines
too rough for where they touch to be seen."""
MAX_SLANT = 0.9
"""Largest slant that is looked for, in columns per row, to the right; half of it to the left."""
KEPT_SLANT = 0.1
"""MNIST's own digits lean a little to the right."""
LINE_COVER = 0.8
MAX_REGIONS = 600
"""The largest are kept: a scan's specks may be thousands."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Patch:
    """A line of writing, cut out of its picture, enlarged and made upright."""

    parts: NDArray[np.int32]
    """(H, W): the number of the connected piece of ink at each pixel, from 1; 0 for none."""
    strength: Grey
    """(H, W): ink."""
    height: float
    """Of a digit, in pixels of the patch."""
    slant: float
    """By how many columns a row it leaned to the right before it was made upright."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in the picture, in its pixels."""


def find_patches(rgb: NDArray[Any]) -> list[Patch]:
    """Find the lines of writing in a picture, top to bottom.

    Args:
        rgb: (H, W, 3) in [0, 1].
    """
    ink = find_ink(rgb, of_writing=True)
    strength = ink.strength
    is_small = max(strength.shape) <= SMALL
    if not is_small:
        strength = fade_lines(strength, max(1.5 * ink.noise, 0.08 * strongest(strength)))
    peak = strongest(strength)
    if peak < max(MIN_CONTRAST, MIN_SIGMAS * ink.noise):
        return []
    scale = 2 if max(strength.shape) < COARSE else 1
    if scale > 1:
        size = scale * strength.shape[1], scale * strength.shape[0]
        strength = resize_grey(strength.astype(np.float32), size, Image.Resampling.BICUBIC)
    mask = strength > max(0.3 * peak, 2.5 * ink.noise)
    if not is_small:
        mask = remove_lines(mask, LINE_COVER)
    labels, regions = label_regions(mask, strength)
    # Numbers are often cropped so tightly that digits touch the picture's sides.
    foreign = find_foreign(regions, labels, is_flat=True)
    regions = [
        r
        for r in regions
        if r.label not in foreign and r.peak >= 0.4 * peak and r.area >= 3 * scale**2
    ]
    regions = sorted(sorted(regions, key=lambda r: -r.area)[:MAX_REGIONS], key=lambda r: r.label)
    return [_cut_out(group, labels, strength, scale) for group in _group(regions)]


def _group(regions: list[Region]) -> list[list[Region]]:
    """Sort regions into lines: digits whose rows overlap, and what lies near them."""
    if not regions:
        return []
    tall = float(np.percentile([r.height for r in regions], 90))
    lines: list[list[Region]] = []
    for r in regions:
        if r.height <= 0.4 * tall:
            continue
        same = [line for line in lines if any(_share_rows(r, other, tall) for other in line)]
        lines = [line for line in lines if line not in same]
        lines.append([r, *(other for line in same for other in line)])
    for r in regions:
        if r.height > 0.4 * tall:
            continue
        distances = [max(0, _rows(line)[0] - r.bottom, r.top - _rows(line)[1]) for line in lines]
        nearest = int(np.argmin(distances))
        if distances[nearest] < 0.3 * tall:
            lines[nearest].append(r)
    return sorted(lines, key=lambda line: _rows(line)[0])


def _share_rows(a: Region, b: Region, tall: float) -> bool:
    shared = min(a.bottom, b.bottom) - max(a.top, b.top)
    apart = max(a.left, b.left) - min(a.right, b.right)
    return shared > 0.5 * min(a.height, b.height) and apart < 5 * tall


def _rows(line: list[Region]) -> tuple[float, float]:
    """Return the rows that a line's digits share: medians of their tops and bottoms."""
    return float(np.median([r.top for r in line])), float(np.median([r.bottom for r in line]))


def _cut_out(regions: list[Region], labels: NDArray[np.int32], strength: Grey, scale: int) -> Patch:
    """Make a line upright: each row moved sideways by whole pixels."""
    left, right = min(r.left for r in regions), max(r.right for r in regions)
    top, bottom = min(r.top for r in regions), max(r.bottom for r in regions)
    numbers = np.zeros(labels.max() + 1, np.int32)
    numbers[[r.label for r in regions]] = np.arange(1, len(regions) + 1)
    parts = numbers[labels[top:bottom, left:right]]
    slant = find_slant(parts > 0)
    # Rows above the middle lean to the right, and move left.
    rows = np.arange(top, bottom)[:, None]
    moves = ((rows - (top + bottom) / 2) * slant).round().astype(np.int64)
    margin = int(np.abs(moves).max())
    columns = np.arange(left - margin, right + margin) - moves
    inside = (columns >= 0) & (columns < labels.shape[1])
    columns = np.clip(columns, 0, labels.shape[1] - 1)
    parts = np.where(inside, numbers[labels[rows, columns]], 0).astype(np.int32)
    upright = np.where(inside, strength[rows, columns], 0)
    filled = np.nonzero((parts > 0).any(axis=0))[0]
    chosen = slice(int(filled[0]), int(filled[-1]) + 1)
    heights = [r.height for r in regions]
    return Patch(
        parts=parts[:, chosen],
        strength=upright[:, chosen],
        height=float(np.percentile([h for h in heights if h > 0.4 * max(heights)], 60)),
        slant=slant,
        box=(left // scale, top // scale, -(-right // scale), -(-bottom // scale)),
    )


def find_slant(mask: Mask) -> float:
    """Return by how many columns a row writing leans to the right, beyond MNIST's own digits.

    Upright strokes fall into few columns: of all slants, the one is taken under which the squares
    of the columns' counts have the largest sum.
    """
    y, x = np.nonzero(mask)
    off = y - mask.shape[0] / 2
    best, slant = -1.0, 0.0
    for candidate in np.arange(-MAX_SLANT / 2, MAX_SLANT + 0.01, 0.05):
        counts = np.bincount((x + candidate * off + mask.shape[0]).astype(np.int64))
        score = float((counts.astype(np.float64) ** 2).sum())
        if score > best:
            best, slant = score, float(candidate)
    return slant - KEPT_SLANT
