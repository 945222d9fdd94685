"""Find the card in a drawing: a window or canvas of another colour on a plain page."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.reading.paper import Ink, find_ink
from lenet.reading.regions import Mask, Region, label_regions, stroke_width

SHARE = 0.3
"""Ink is stronger than this share of the strongest."""
FULL = 0.95
"""Share of each side of its box that a card covers."""
MIN_SIDE = 36
"""Shortest side of a card, in pixels."""
MIN_CONTENT = 0.15
"""Shortest longer side of what stands on a card, as a share of the card's shorter side."""
MAX_STROKE = 0.4
"""Widest stroke of what stands on a card, as a share of its longer side."""


def find_card(ink: Ink) -> tuple[int, int, int, int] | None:
    """Find a filled rectangle with something written on it in the colour of the page.

    Returns:
        Left, top, right, bottom of its inside, or None. Digits are no rectangles, and the holes
        in those that nearly are hold no strokes.
    """
    if not ink.is_flat or min(ink.strength.shape) < MIN_SIDE:
        return None
    mask: Mask = ink.strength > SHARE * float(ink.strength.max())
    labels, regions = label_regions(mask, ink.strength)
    for r in sorted(regions, key=lambda r: -r.area):
        if min(r.height, r.width) < MIN_SIDE or r.area < 0.5 * r.height * r.width:
            continue
        box = labels[r.top : r.bottom, r.left : r.right] == r.label
        ends = (box[1], box[-2], box[:, 1], box[:, -2])
        if all(end.mean() >= FULL for end in ends) and _has_content(box):
            edge = 2 + min(r.height, r.width) // 50
            return r.left + edge, r.top + edge, r.right - edge, r.bottom - edge
    return None


def cut_card(rgb: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, int]]:
    """Return the inside of the card in a picture, or all of it, and where that begins: x, y."""
    card = find_card(find_ink(rgb))
    if card is None:
        return rgb, (0, 0)
    left, top, right, bottom = card
    return rgb[top:bottom, left:right], (left, top)


def _has_content(box: Mask) -> bool:
    """Tell whether something is written on a card, which is all of `box` but this."""
    labels, holes = label_regions(~box, np.ones(box.shape, np.float32))
    height, width = box.shape
    return any(
        _is_written(hole, labels, min(height, width))
        for hole in holes
        if _is_inside(hole, height, width)
    )


def _is_inside(hole: Region, height: int, width: int) -> bool:
    is_large = hole.size >= MIN_CONTENT * min(height, width)
    is_off = hole.top > 1 and hole.left > 1 and hole.bottom < height - 1 and hole.right < width - 1
    return is_large and is_off


def _is_written(hole: Region, labels: NDArray[np.int32], side: int) -> bool:
    mask = labels[hole.top : hole.bottom, hole.left : hole.right] == hole.label
    is_bent = hole.area <= 0.6 * hole.height * hole.width
    is_bar = min(hole.height, hole.width) <= 0.2 * side
    return (is_bent or is_bar) and stroke_width(mask) <= MAX_STROKE * hole.size
