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

from lenet.errors import PictureError
from lenet.reading.layout import Patch, find_patches
from lenet.reading.normalize import to_mnist
from lenet.reading.paper import resize_grey
from lenet.reading.regions import Grey, Mask, dilate

MAX_PIECES = 6
"""Most pieces in an arc."""
MAX_WIDTH = 1.6
"""Widest arc, in heights of the line."""
CUT_SPACING = 0.12
"""Least distance between two cuts, in heights of the line."""
WAIST = 0.1
"""How much lower than on both sides within `WAIST_REACH` a waist is, in heights of the line."""
WAIST_REACH = 0.7
FEET_REACH = 2.5
"""How far a piece's neighbours reach, in heights of the line."""
LEAN = 0.25
"""A lean up to this, in columns per row, is made upright for the cuts alone: MNIST's own digits
lean as much to either side, and what is left as it was written is read best."""
MAX_PICTURE_PIECES = 800
"""Of all lines; each is in six arcs, and an arc takes some 2 ms."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """A line of writing, over-segmented."""

    cells: NDArray[np.int32]
    """(H, W) of its patch: the number of the piece at each pixel from 1, 0 for none."""
    patch: Patch
    boxes: tuple[tuple[int, int, int, int], ...]
    """Left, top, right, bottom of each piece, within the patch."""
    torn: tuple[tuple[int, int, float], ...]
    """Cuts through ink: the two pieces' numbers from 0, and the ink cut through, in heights."""

    @property
    def height(self) -> float:
        """Of a digit, in pixels of the patch."""
        return self.patch.height

    @property
    def strength(self) -> Grey:
        """(H, W): ink."""
        return self.patch.strength


@dataclass(frozen=True, eq=False, kw_only=True)
class Arc:
    """Some pieces in a row that one label may stand for."""

    first: int
    """Number of the first piece, from 0."""
    end: int
    """One past the last."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom, within the patch."""
    height: float
    """Above what its neighbours stand on, in heights of the line; little of a comma's."""
    width: float
    """Likewise."""
    gap: float
    """Columns without ink between its pieces, in heights of the line."""
    torn: float
    """Ink cut through on its two sides, in heights of the line."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Part:
    mask: Mask
    """Within its box."""
    box: tuple[int, int, int, int]
    region: int
    place: int
    """In its region, from 0."""
    torn: float
    """Ink cut through on its left, in heights of the line."""


def find_lines(rgb: NDArray[Any]) -> list[Line]:
    """Find the lines of writing in a picture, top to bottom, each cut into pieces.

    Args:
        rgb: (H, W, 3) in [0, 1].

    Raises:
        PictureError: So many pieces that to read them would take minutes.
    """
    lines: list[Line] = []
    num_pieces = 0
    for patch in find_patches(rgb):
        lines.append(_cut(patch))
        num_pieces += len(lines[-1].boxes)
        if num_pieces > MAX_PICTURE_PIECES:
            raise PictureError(
                f"more than {MAX_PICTURE_PIECES:,} pieces of ink are not read as numbers; cut the "
                "picture into parts"
            )
    return lines


def _cut(patch: Patch) -> Line:
    """Cut a line's regions into pieces, numbered from left to right."""
    tall = patch.height
    parts: list[_Part] = []
    for number in range(1, int(patch.parts.max()) + 1):
        own = patch.parts == number
        filled = np.nonzero(own.any(axis=0))[0]
        left, right = int(filled[0]), int(filled[-1]) + 1
        columns = [left, *find_cuts(own, left, right, tall), right]
        for place, (start, end) in enumerate(pairwise(columns)):
            rows = np.nonzero(own[:, start:end].any(axis=1))[0]
            if not len(rows):  # between a dot and its neighbour that touch at a corner
                continue
            box = start, int(rows[0]), end, int(rows[-1]) + 1
            part = own[box[1] : box[3], start:end].copy()  # of the whole, hundreds are a gigabyte
            torn = float(own[:, start].sum()) / tall if place else 0.0
            parts.append(_Part(mask=part, box=box, region=number, place=place, torn=torn))
    parts.sort(key=lambda part: part.box[0] + part.box[2])
    cells = np.zeros(patch.parts.shape, np.int32)
    for number, piece in enumerate(parts, start=1):
        left, top, right, bottom = piece.box
        cells[top:bottom, left:right][piece.mask] = number
    numbers = {(piece.region, piece.place): number for number, piece in enumerate(parts)}
    return Line(
        cells=cells,
        patch=patch,
        boxes=tuple(piece.box for piece in parts),
        torn=tuple(
            (numbers[piece.region, piece.place - 1], number, piece.torn)
            for number, piece in enumerate(parts)
            if (piece.region, piece.place - 1) in numbers
        ),
    )


def find_cuts(own: Mask, left: int, right: int, tall: float) -> list[int]:
    """Return the columns before which a region, from `left` to `right`, may be cut.

    Candidates are where a column holds little ink, or the gap between the upper and the lower
    outline is small, or smaller than on both sides, as where two zeros share a wall.
    """
    if right - left < 0.45 * tall:
        return []
    columns = own[:, left:right]
    counts = columns.sum(axis=0)
    upper = columns.argmax(axis=0)
    lower = columns.shape[0] - columns[::-1].argmax(axis=0)
    extents = lower - upper
    reach = max(1, round(CUT_SPACING * tall))
    far = round(WAIST_REACH * tall)
    found: dict[int, float] = {}
    for x in range(reach, len(counts) - reach):
        sides = min(extents[max(0, x - far) : x].max(), extents[x + 1 : x + far + 1].max())
        for profile, limit in (
            (counts, 0.4 * tall),
            (extents, max(0.5 * tall, sides - WAIST * tall)),
        ):
            window = profile[x - reach : x + reach + 1]
            if profile[x] <= limit and profile[x] == window.min():
                # In the middle of a flat stretch, not at its start.
                flat = np.nonzero(window == profile[x])[0]
                middle = x - reach + int(flat[len(flat) // 2])
                # The middle of a 0 has as little ink as where two of them touch, but is tall.
                found[middle] = float(counts[middle] + extents[middle])
    cuts: list[int] = []
    for x in sorted(found, key=lambda x: found[x]):
        if all(abs(x - other) >= reach for other in cuts):
            cuts.append(x)
    return sorted(x + left for x in cuts)


def find_arcs(line: Line) -> list[Arc]:
    """Return all arcs of a line: up to `MAX_PIECES` pieces in a row, not too wide, no dirt."""
    arcs = []
    feet = _feet(line)
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
                    height=(min(bottom, feet[first:end].max()) - top) / line.height,
                    width=(right - left) / line.height,
                    gap=_gap(boxes) / line.height,
                    torn=sum(
                        ink for a, b, ink in line.torn if (first <= a < end) != (first <= b < end)
                    ),
                )
            )
    return arcs


def _gap(boxes: tuple[tuple[int, int, int, int], ...]) -> int:
    """Return how many columns, of those from the first box to the last, are in none."""
    total, reached = 0, min(left for left, *_ in boxes)
    for left, _, right, _ in sorted(boxes):
        total += max(0, left - reached)
        reached = max(reached, right)
    return total


def _feet(line: Line) -> NDArray[Any]:
    """Return, for each piece, the row that it and the pieces around it stand on: their median."""
    boxes = np.array(line.boxes, dtype=np.float64).reshape(-1, 4)
    middles, bottoms = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]
    is_tall = bottoms - boxes[:, 1] > 0.4 * line.height
    near = (np.abs(middles[:, None] - middles) < FEET_REACH * line.height) & is_tall
    return np.array(
        [
            np.median(bottoms[chosen]) if chosen.any() else bottom
            for chosen, bottom in zip(near, bottoms, strict=True)
        ]
    )


def arc_image(line: Line, arc: Arc) -> NDArray[np.uint8]:
    """Return an arc's ink as MNIST would have it, (28, 28) uint8, leaning nearly as written."""
    left, top, right, bottom = arc.box
    rows = np.arange(top, bottom)
    kept = min(LEAN, max(-LEAN, line.patch.slant))
    moves = ((rows - len(line.cells) / 2) * kept).round().astype(np.int64)
    columns = np.arange(left - moves.max(), right - moves.min()) + moves[:, None]
    inside = (columns >= left) & (columns < right)
    columns = np.clip(columns, left, right - 1)
    cells = line.cells[rows[:, None], columns]
    mask = inside & (cells > arc.first) & (cells <= arc.end)
    return to_mnist(line.strength[rows[:, None], columns], mask, on_grid=True)


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
