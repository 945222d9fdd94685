"""From a picture of writing to pieces that may be digits or parts of them.

The paper's heuristic over-segmentation (section V): cut wherever a cut might be, and let the
network say which cuts were good. A piece is what lies between two cuts; an arc is what one label
may stand for, some pieces in a row.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.images.lines import remove_lines
from lenet.images.normalize import MIN_SIGMAS, find_foreign, strongest, to_mnist
from lenet.images.paper import MIN_CONTRAST, SMALL, Ink, resize_grey
from lenet.images.regions import Grey, Mask, Region, dilate, label_regions

MAX_PIECES = 4
"""Most pieces in an arc."""
MAX_WIDTH = 1.6
"""Widest arc, in heights of the line."""
CUT_SPACING = 0.12
"""Least distance between two cuts, in heights of the line."""
MAX_LINE_PIECES = 400


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """A line of writing, over-segmented."""

    cells: NDArray[np.int32]
    """(H, W) of the line's own box: the number of the piece at each pixel from 1, 0 for none."""
    strength: Grey
    """(H, W): ink."""
    boxes: tuple[tuple[int, int, int, int], ...]
    """Left, top, right, bottom of each piece, within the line's box."""
    torn: tuple[tuple[int, int, float], ...]
    """Cuts through ink: the two pieces' numbers from 0, and the ink cut through, in heights."""
    height: float
    """Of a digit, in pixels."""
    left: int
    """Place of the line's box in the picture."""
    top: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Arc:
    """Some pieces in a row that one label may stand for."""

    first: int
    """Number of the first piece, from 0."""
    end: int
    """One past the last."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom, within the line's box."""
    height: float
    """In heights of the line."""
    width: float
    """Likewise."""
    torn: float
    """Ink cut through on its two sides, in heights of the line."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Part:
    mask: Mask
    box: tuple[int, int, int, int]
    region: int
    place: int
    """In its region, from 0."""
    torn: float
    """Ink cut through on its left, in heights of the line."""


def find_lines(ink: Ink) -> list[Line]:
    """Find the lines of writing in a picture, top to bottom, each cut into pieces."""
    strength = ink.strength
    peak = strongest(strength)
    if peak < max(MIN_CONTRAST, MIN_SIGMAS * ink.noise):
        return []
    mask = strength > max(0.3 * peak, 2.5 * ink.noise)
    if max(mask.shape) > SMALL:
        mask = remove_lines(mask)
    labels, regions = label_regions(mask, strength)
    # Numbers are often cropped so tightly that digits touch the picture's sides.
    foreign = find_foreign(regions, labels, is_flat=True)
    regions = [
        r for r in regions if r.label not in foreign and r.peak >= 0.4 * peak and r.area >= 3
    ]
    groups = _group(regions)
    return [_cut(group, labels, strength) for group in groups]


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


def _cut(regions: list[Region], labels: NDArray[np.int32], strength: Grey) -> Line:
    """Cut a line's regions into pieces, numbered from left to right."""
    left, right = min(r.left for r in regions), max(r.right for r in regions)
    top, bottom = min(r.top for r in regions), max(r.bottom for r in regions)
    heights = [r.height for r in regions]
    tall = float(np.percentile([h for h in heights if h > 0.4 * max(heights)], 60))
    inside = labels[top:bottom, left:right]
    parts: list[_Part] = []
    for r in regions:
        own = inside == r.label
        columns = [r.left - left, *find_cuts(own, r, left, tall), r.right - left]
        for place, (start, end) in enumerate(pairwise(columns)):
            part = own.copy()
            part[:, :start] = part[:, end:] = False
            rows = np.nonzero(part.any(axis=1))[0]
            box = start, int(rows[0]), end, int(rows[-1]) + 1
            torn = float(own[:, start].sum()) / tall if place else 0.0
            parts.append(_Part(mask=part, box=box, region=r.label, place=place, torn=torn))
    parts.sort(key=lambda part: part.box[0] + part.box[2])
    parts = parts[:MAX_LINE_PIECES]
    cells = np.zeros(inside.shape, np.int32)
    for number, piece in enumerate(parts, start=1):
        cells[piece.mask] = number
    numbers = {(piece.region, piece.place): number for number, piece in enumerate(parts)}
    return Line(
        cells=cells,
        strength=strength[top:bottom, left:right],
        boxes=tuple(piece.box for piece in parts),
        torn=tuple(
            (numbers[piece.region, piece.place - 1], number, piece.torn)
            for number, piece in enumerate(parts)
            if (piece.region, piece.place - 1) in numbers
        ),
        height=tall,
        left=left,
        top=top,
    )


def find_cuts(own: Mask, region: Region, left: int, tall: float) -> list[int]:
    """Return the columns before which a region may be cut, relative to `left`.

    Candidates are where the ink of a column, or the gap between the upper and the lower outline,
    is smallest within reach, and much smaller than a digit is tall.
    """
    if region.width < 0.45 * tall:
        return []
    columns = own[:, region.left - left : region.right - left]
    counts = columns.sum(axis=0)
    upper = columns.argmax(axis=0)
    lower = columns.shape[0] - columns[::-1].argmax(axis=0)
    reach = max(1, round(CUT_SPACING * tall))
    found: dict[int, float] = {}
    for profile, limit in ((counts, 0.4 * tall), (lower - upper, 0.5 * tall)):
        for x in range(reach, len(profile) - reach):
            window = profile[x - reach : x + reach + 1]
            if profile[x] <= limit and profile[x] == window.min():
                # In the middle of a flat stretch, not at its start.
                flat = np.nonzero(window == profile[x])[0]
                middle = x - reach + int(flat[len(flat) // 2])
                # The middle of a 0 has as little ink as where two of them touch, but is tall.
                found[middle] = float(counts[middle] + (lower - upper)[middle])
    cuts: list[int] = []
    for x in sorted(found, key=lambda x: found[x]):
        if all(abs(x - other) >= reach for other in cuts):
            cuts.append(x)
    return sorted(x + region.left - left for x in cuts)


def find_arcs(line: Line) -> list[Arc]:
    """Return all arcs of a line: up to `MAX_PIECES` pieces in a row, not too wide, no dirt."""
    arcs = []
    for first in range(len(line.boxes)):
        for end in range(first + 1, min(first + MAX_PIECES, len(line.boxes)) + 1):
            boxes = line.boxes[first:end]
            left, right = min(b[0] for b in boxes), max(b[2] for b in boxes)
            top, bottom = min(b[1] for b in boxes), max(b[3] for b in boxes)
            if right - left > MAX_WIDTH * line.height:
                continue
            arcs.append(
                Arc(
                    first=first,
                    end=end,
                    box=(left, top, right, bottom),
                    height=(bottom - top) / line.height,
                    width=(right - left) / line.height,
                    torn=sum(
                        ink for a, b, ink in line.torn if (first <= a < end) != (first <= b < end)
                    ),
                )
            )
    return arcs


def arc_image(line: Line, arc: Arc) -> NDArray[np.uint8]:
    """Return an arc's ink as MNIST would have it, (28, 28) uint8."""
    left, top, right, bottom = arc.box
    cells = line.cells[top:bottom, left:right]
    mask = (cells > arc.first) & (cells <= arc.end)
    return to_mnist(line.strength[top:bottom, left:right], mask)


def to_field(line: Line, *, digit_height: int = 20) -> Grey:
    """Return a line as one wide field for a sweep of the network.

    Returns:
        (32, W) float32 in [0, 1]: the line scaled so that a digit is `digit_height` pixels tall,
        its middle in the middle, 16 pixels of background on each side.
    """
    mask = line.cells > 0
    full = float(np.percentile(line.strength[mask], 75))
    near = dilate(mask.astype(np.float32), 1)
    ink = np.clip((line.strength / full - 0.15) / 0.7, 0, 1) * near
    scale = digit_height / line.height
    size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
    kind = Image.Resampling.BOX if scale < 0.7 else Image.Resampling.BILINEAR
    scaled = resize_grey(ink.astype(np.float32), size, kind)
    rows = scaled.sum(axis=1)
    middle = float((rows * np.arange(len(rows))).sum() / max(1e-6, float(rows.sum())))
    padded = np.pad(scaled, ((32, 32), (16, 16)))
    top = round(middle) + 16
    field: Grey = np.pad(padded[top : top + 32], ((0, 0), (0, 32)))
    return field


def piece_heights(line: Line) -> NDArray[Any]:
    """Return the longer side of each piece's box, in heights of the line."""
    sides = [max(b[2] - b[0], b[3] - b[1]) for b in line.boxes]
    return np.array(sides, dtype=np.float64) / line.height
