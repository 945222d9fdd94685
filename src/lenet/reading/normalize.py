"""From a picture to a 28x28 digit the way MNIST was made, step by step.

The steps: how far each pixel is from the paper (`paper.find_ink`), which pieces of it are the digit
(`pick_digit`), and MNIST's own: crop, fit into 20x20 with anti-aliasing, strokes as thick as
MNIST's, centred by mass in 28x28 (`to_mnist`). Each is a pure function of arrays.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.reading.card import find_card
from lenet.reading.foreign import find_foreign
from lenet.reading.lines import remove_lines
from lenet.reading.paper import (
    MIN_CONTRAST,
    Ink,
    enlarge,
    enlargement,
    find_ink,
    resize,
    resize_grey,
)
from lenet.reading.regions import Grey, Mask, Region, dilate, label_regions, stroke_width

SIDE = 28
BOX = 20
MIN_SIGMAS = 6.0
"""Least contrast of ink in standard deviations of the smoothed paper."""
MIN_SIZE = 0.04
"""Least size of a digit, as a share of the picture's longer side; smaller is a speck."""
ASIDE = 0.12
"""What lies all within this share of the height and width from the picture's sides is what is left
of lines or a table there."""
MAX_REACH, MIN_GAP = 0.85, 0.08
"""However small the pieces into which a faint stroke fell apart, those may be joined that are
together within so much of the picture's longer side, and apart by less than so much of it."""
SECOND, SECOND_INK = 0.5, 0.1
"""What has these shares of the digit's size and of its ink is another digit, or a part of what is
no digit."""
MIDDLE = 14.5
"""Where the centre of mass lies from the top and the left, in pixels: at the middle of the pixel
of row and column 14, as in MNIST, and not at the middle of the image."""
THIN = 2.2
"""Strokes thinner than this many pixels of the box are thickened to it; MNIST's mean is 2.5."""
FINE = 3
"""Subpixels along each side of a pixel while a digit is fitted into its box."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalized:
    """A digit as MNIST would have it, and what was done to get there."""

    image: NDArray[np.uint8] | None
    """(28, 28), 0 = background, 255 = ink; None where no digit was found."""
    box: tuple[int, int, int, int] | None
    """Left, top, right, bottom of the digit in the picture that was given, in pixels."""
    is_alone: bool
    """Nothing else in the picture is about as large."""
    is_light_on_dark: bool
    steps: tuple[tuple[str, NDArray[Any]], ...] = field(repr=False)
    """What each step made: its name and a grey picture (H, W) in [0, 1] or (H, W, 3)."""


def pick_digit(ink: Ink) -> tuple[Mask, bool]:
    """Decide which pixels belong to the digit.

    Returns:
        (H, W) mask, none set where there is no digit; and whether nothing else lies whole in the
        picture that is about as large.
    """
    height, width = ink.strength.shape
    # Limits in pixels decide what is a stroke, a line or a speck.
    scale = enlargement(height, width)
    strength = enlarge(ink.strength, scale)
    for _ in range(4):
        peak = strongest(strength[::scale, ::scale])
        if peak < max(MIN_CONTRAST, MIN_SIGMAS * ink.noise):
            break
        mask = remove_lines(strength > max(0.3 * peak, 2.5 * ink.noise))
        labels, regions = label_regions(mask, strength)
        foreign = find_foreign(regions, labels, ink.is_flat)
        others = [r for r in regions if r.label not in foreign]
        top, left = (int(ASIDE * side) for side in mask.shape)
        inside = labels[top : mask.shape[0] - top, left : mask.shape[1] - left].ravel()
        is_inside = np.bincount(inside, minlength=labels.max() + 1) > 0
        strong = [
            r
            for r in others
            if r.peak >= 0.5 * peak
            and r.area >= 4 * scale**2
            and r.size >= MIN_SIZE * max(mask.shape)
            and is_inside[r.label]
        ]
        if strong:
            digit = join(strong, others, mask.shape)
            taken = np.isin(labels, [r.label for r in digit])
            blocks = taken.reshape(height, scale, width, scale)
            is_alone = not any(_is_second(r, digit, mask.shape) for r in strong)
            return np.asarray(blocks.any(axis=(1, 3))), is_alone
        # Only frames, corners and specks are this strong: look for something fainter.
        gone = np.isin(labels, [r.label for r in regions if r.peak >= 0.5 * peak])
        strength[dilate(gone.astype(np.float32), 2 * scale) > 0] = 0
    return np.zeros((height, width), np.bool_), True


def _is_second(r: Region, digit: list[Region], shape: tuple[int, ...]) -> bool:
    """Tell whether a region is about as large as the digit, and not cut off by the picture."""
    left, top, right, bottom = bounding_box(digit)
    return (
        r not in digit
        and not _touches_edge(r, shape)
        and r.size >= SECOND * max(right - left, bottom - top)
        and r.weight >= SECOND_INK * sum(part.weight for part in digit)
    )


def _touches_edge(r: Region, shape: tuple[int, ...]) -> bool:
    return r.top == 0 or r.left == 0 or r.bottom == shape[0] or r.right == shape[1]


def strongest(strength: Grey) -> float:
    """Return the strength of a stroke's middle: that of the strongest few pixels."""
    count = max(4, strength.size // 20_000)
    values = np.partition(strength.ravel(), -count)[-count:] if strength.size > count else strength
    return float(np.median(values))


def join(strong: list[Region], others: list[Region], shape: tuple[int, ...]) -> list[Region]:
    """Take the heaviest region and, again and again, what lies near enough to be part of it.

    Args:
        strong: Of which the heaviest is the digit's.
        others: What may join it, `strong` among them.
        shape: Of the picture.
    """
    # A neighbour's stroke reaches in from the edge, and is cut off there.
    whole = [r for r in strong if not _touches_edge(r, shape)]
    heaviest = max(strong, key=lambda r: r.weight)
    main = max(whole, key=lambda r: r.weight) if whole else heaviest
    if _touches_edge(heaviest, shape) and main.weight < 0.4 * heaviest.weight:
        main = heaviest
    taken, rest = [main], [r for r in others if r.label != main.label]
    if not _touches_edge(main, shape):
        rest = [r for r in rest if not _touches_edge(r, shape)]
    reach = max(1.7 * main.size, MAX_REACH * max(shape))
    while True:
        box = bounding_box(taken)
        size = max(box[3] - box[1], box[2] - box[0])
        near = [
            r
            for r in rest
            if r.weight >= 0.02 * main.weight
            and max(r.top - box[3], box[1] - r.bottom, r.left - box[2], box[0] - r.right)
            < max(0.3 * size, MIN_GAP * max(shape))
            and max(box[3], r.bottom) - min(box[1], r.top) <= reach
            and max(box[2], r.right) - min(box[0], r.left) <= reach
        ]
        if not near:
            return taken
        taken += near
        labels = {r.label for r in near}
        rest = [r for r in rest if r.label not in labels]


def bounding_box(regions: list[Region]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the smallest box that holds the regions."""
    return (
        min(r.left for r in regions),
        min(r.top for r in regions),
        max(r.right for r in regions),
        max(r.bottom for r in regions),
    )


def to_mnist(strength: Grey, mask: Mask, *, on_grid: bool = False) -> NDArray[np.uint8]:
    """Make a digit of MNIST's kind.

    Args:
        strength: (H, W) ink, any unit.
        mask: (H, W), the pixels that belong to the digit; not empty.
        on_grid: Move the box by whole pixels, as MNIST's own were; otherwise by subpixels, so that
            a digit that is a little larger or smaller is nearly the same image.

    Returns:
        (28, 28) uint8: fitted into 20x20, centred by mass.
    """
    full = _upper_quartile(strength[mask])
    near = dilate(mask.astype(np.float32), 1)
    ink = np.clip((strength / full - 0.15) / 0.7, 0, 1) * near
    rows, columns = (np.nonzero(mask.any(axis=1 - axis))[0] for axis in (0, 1))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = BOX * FINE
    fitted = _fit(ink, side)
    thicken = max(0.0, (THIN * FINE - stroke_width(fitted > 0.5)) / 2)
    if round(thicken):
        fitted = _fit(ink, side - 2 * round(thicken))
    height, width = fitted.shape
    fine = np.zeros((height + 2 * side, width + 2 * side), np.float32)
    fine[side : side + height, side : side + width] = fitted
    if thicken:
        fine = dilate(fine, thicken)
    # Where the image begins; then each pixel is a mean.
    top, left = (m + 0.5 - MIDDLE * FINE for m in _centre(fine))
    if on_grid:
        corner = side - round(thicken)
        top, left = (corner - FINE * round((corner - start) / FINE) for start in (top, left))
    top, left = max(0, round(top)), max(0, round(left))
    cut = fine[top : top + SIDE * FINE, left : left + SIDE * FINE]
    field = np.zeros((SIDE * FINE, SIDE * FINE), np.float32)
    field[: cut.shape[0], : cut.shape[1]] = cut
    pixels = field.reshape(SIDE, FINE, SIDE, FINE).mean(axis=(1, 3))
    image: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)
    return image


def _centre(values: Grey) -> list[float]:
    """Return the row and the column of the centre of mass."""
    mass = values.sum()
    return [
        float((values.sum(axis=1 - axis) * np.arange(values.shape[axis])).sum() / mass)
        for axis in (0, 1)
    ]


def _upper_quartile(values: Grey) -> float:
    """Return `np.percentile(values, 75)`, which takes as long as all else here together."""
    place = 0.75 * (len(values) - 1)
    rank = min(int(place), max(0, len(values) - 2))
    near = np.partition(values, sorted({rank, min(rank + 1, len(values) - 1)}))[rank : rank + 2]
    low, high = float(near[0]), float(near[-1])
    return float(low + (place - rank) * (high - low))


def _fit(ink: Grey, side: int) -> Grey:
    """Resize so that the longer side is `side` pixels, each the mean of what it covers."""
    height, width = ink.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = resize_grey(
        ink, size, Image.Resampling.BOX if scale < 0.7 else Image.Resampling.BILINEAR
    )
    # Strokes thinner than a pixel have become faint: full ink is what their middles are.
    full = float(np.median(fitted[fitted > 0.5 * fitted.max()]))
    result: Grey = np.minimum(fitted / np.float32(full), 1)
    return result


def normalize(rgb: NDArray[Any], *, keep_steps: bool = False) -> Normalized:
    """Make a 28x28 digit of a picture of one digit.

    Args:
        rgb: (H, W, 3) in [0, 1].
        keep_steps: Keep what each step made, to be looked at.
    """
    ink = find_ink(rgb)
    card = find_card(ink)
    left, top, right, bottom = card or (0, 0, rgb.shape[1], rgb.shape[0])
    if card is not None:
        ink = find_ink(rgb[top:bottom, left:right])
    mask, is_alone = pick_digit(ink)
    found = Image.fromarray(mask).getbbox()
    image = to_mnist(ink.strength, mask) if found else None
    box = (found[0] + left, found[1] + top, found[2] + left, found[3] + top) if found else None
    steps: list[tuple[str, NDArray[Any]]] = []
    if keep_steps:
        size = right - left, bottom - top
        peak = max(1e-6, strongest(ink.strength))
        steps = [
            ("picture", rgb),
            ("paper", resize(ink.paper, size, Image.Resampling.BILINEAR)),
            ("ink", np.clip(ink.strength / peak, 0, 1)),
            ("digit", mask.astype(np.float32)),
        ]
        if image is not None:
            steps.append(("28x28", image.astype(np.float32) / 255))
    return Normalized(
        image=image,
        box=box,
        is_alone=is_alone,
        is_light_on_dark=ink.is_light_on_dark,
        steps=tuple(steps),
    )
