"""Tell what is no writing among the pieces of a picture: the table, frames, ruled lines."""

import numpy as np
from numpy.typing import NDArray

from lenet.reading.regions import Region

CONTACT = 0.015
"""What is this near to a side of the picture touches it, as a share of the longer one."""
CORNERS = (slice(0, 2), slice(-2, None))
FULL = 0.85
"""Share of a side along which a margin or a cell's line lies."""
MAX_STRIP = 0.35
"""Largest box of a table along the sheet, as a share of the picture; a larger one may hold the
digit."""
MIN_FILLED = 0.3
"""Least share of its box that a table fills."""


def find_foreign(regions: list[Region], labels: NDArray[np.int32], is_flat: bool) -> set[int]:
    """Return the labels of frames, dark corners and lines among regions."""
    height, width = labels.shape
    borders = [r for r in regions if _is_border(r, labels)]
    found = {r.label for r in borders}
    if not is_flat:
        # A patterned table has parts that meet no side; they are within its box. So is what a
        # frame holds, but of a frame's box little is ink.
        strips = [
            b
            for b in borders
            if b.height * b.width < min(MAX_STRIP * height * width, b.area / MIN_FILLED)
        ]
        found |= {r.label for r in regions if any(_holds(b, r) for b in strips)}
    for r in regions:
        is_line = (r.width > 0.7 * width and r.height < 0.12 * r.width) or (
            r.height > 0.98 * height and r.width < 0.05 * r.height
        )
        if is_line or _is_frame(r, regions, labels):
            found.add(r.label)
    return found


def _holds(outer: Region, inner: Region) -> bool:
    return (
        outer.top <= inner.top
        and outer.left <= inner.left
        and outer.bottom >= inner.bottom
        and outer.right >= inner.right
    )


def _is_border(r: Region, labels: NDArray[np.int32]) -> bool:
    """Tell what the picture's sides cut off: the table, a margin, a cell's lines, a grid.

    A digit that fills its picture meets all four sides too, but with the ends and bends of a
    stroke.
    """
    height, width = labels.shape
    depth = max(1, round(CONTACT * max(height, width)))
    if min(r.top, r.left, height - r.bottom, width - r.right) >= depth:
        return False
    mask = labels == r.label
    sides = (mask[:depth], mask.T[-depth:], mask[-depth:], mask.T[:depth])  # clockwise
    contacts = [side.any(axis=0) for side in sides]
    num_touched = sum(bool(contact.any()) for contact in contacts)
    num_corners = sum(bool(mask[y, x].any()) for y in CORNERS for x in CORNERS)
    is_strip = any(
        bool(contact.mean() > FULL and not opposite.any())
        for contact, opposite in zip(contacts, contacts[2:] + contacts[:2], strict=True)
    )
    is_wedge = num_corners == 1 and num_touched == 2
    starts = [np.count_nonzero(np.diff(np.pad(c, 1).astype(np.int8)) == 1) for c in contacts]
    return is_strip or is_wedge or num_corners >= 3 or bool(min(starts) >= 2)


def _is_frame(region: Region, regions: list[Region], labels: NDArray[np.int32]) -> bool:
    """Tell a box drawn around something."""
    content = [
        r
        for r in regions
        if r.top > region.top
        and r.left > region.left
        and r.bottom < region.bottom
        and r.right < region.right
        and r.size > 0.25 * min(region.height, region.width)
    ]
    if not content:
        return False
    # Its ink is along the sides of its own box alone; or, of a crooked one, clear of what it holds.
    box = labels[region.top : region.bottom, region.left : region.right] == region.label
    edge = max(2, round(0.07 * region.size))
    inner = box[edge:-edge, edge:-edge]
    return int(inner.sum()) < 0.1 * region.area or any(
        r.size > 0.4 * region.size and _surrounds(region, r, labels) for r in content
    )


def _surrounds(region: Region, content: Region, labels: NDArray[np.int32]) -> bool:
    """Tell whether a region is on all four sides of a box, and not within."""
    rows, columns = slice(content.top, content.bottom), slice(content.left, content.right)
    sides = (
        labels[: content.top, columns],
        labels[content.bottom :, columns],
        labels[rows, : content.left],
        labels[rows, content.right :],
    )
    is_within = bool((labels[rows, columns] == region.label).any())
    return not is_within and all(bool((side == region.label).any()) for side in sides)
