"""How far each pixel of a picture is from its paper, in even and uneven light.

Each step is a pure function of arrays.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet.reading.regions import Grey, Mask, Region, dilate, label_regions, smooth3, stroke_width

SMALL = 64
"""A picture of writing this small, in pixels, has no ruled lines."""
LEAST_SIDE = 72
"""A picture of a digit smaller than this, in pixels, is enlarged to find paper and strokes."""
MAX_STROKE = 0.2
"""Widest ink, on average, as a share of the picture's longer side; a sheet is wider."""
SIDES, WIDE = 0.06, 0.12
"""Share of the picture's outline that a piece of paper beside the sheet covers at least, and how
wide a piece is on average that is no stroke, as a share of the longer side."""
COARSE = 128
"""Longest side of the picture in which the paper is found."""
REACH = 6
"""Surroundings of a place of the coarse picture of writing, which is half as fine: to each side."""
MIN_CONTRAST = 0.04
"""Least contrast of ink, as a share of the range from black to white; below is paper."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ink:
    """How far each pixel of a picture is from the paper."""

    strength: Grey
    """(H, W), 0 = paper, about 1 = full ink."""
    noise: float
    """Standard deviation of the paper, in the same unit; 0 of a drawing."""
    is_flat: bool
    """The paper is one colour, as in a drawing."""
    is_light_on_dark: bool
    paper: NDArray[Any]
    """(h, w, 3), what was taken for the paper, coarsely."""


def find_paper(
    rgb: NDArray[Any], *, of_writing: bool = False
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Estimate the paper's colour at each place of a coarse picture.

    Paper is what is smooth and of one piece: strokes, however thick, have sharp outlines, while
    light and shadow change slowly. Under the ink the paper's colour is filled in from around it.
    Writing fills its picture with outlines, and leaves no such piece; but its strokes are thin,
    so that there the paper is what most of the surroundings look like.

    Args:
        rgb: (H, W, 3) in [0, 1].
        of_writing: Digits are small in the picture, and may fill it.

    Returns:
        (h, w, 3), and the coarse picture of that shape. Of a drawing, whose paper is one colour
        all over, h = w = 1 and there is no coarse picture.
    """
    height, width = rgb.shape[:2]
    stride = max(1, max(height, width) // 256)
    samples = rgb[::stride, ::stride].reshape(-1, 3)
    luminance = samples.mean(axis=1) * 255
    levels = np.bincount(luminance.round().astype(np.int64), minlength=256)
    near = np.convolve(levels, np.ones(5, np.int64), mode="same")
    level = int(near.argmax())
    if near[level] >= 0.5 * len(samples):
        paper = np.median(samples[np.abs(luminance - level) <= 3], axis=0)
        return paper.reshape(1, 1, 3).astype(np.float32), None
    scale = min(1.0, (COARSE // 2 if of_writing else COARSE) / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    coarse = enlarge(resize(rgb, size, Image.Resampling.BOX), enlargement(height, width))
    return _fill(coarse, (_common_part if of_writing else _smooth_part)(coarse)), coarse


def enlargement(height: int, width: int) -> int:
    """Return by what whole factor a small picture is enlarged, so that strokes have an inside."""
    return -(-LEAST_SIDE // max(height, width))


def enlarge(values: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return (H, W, ...) with each pixel repeated `scale` times down and across."""
    return values.repeat(scale, axis=0).repeat(scale, axis=1)


def _common_part(coarse: NDArray[Any]) -> Mask:
    """Return where a picture is about as most of its surroundings are."""
    padded = np.pad(coarse, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="reflect")
    side = 2 * REACH + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))
    difference = np.abs(coarse - np.median(windows, axis=(3, 4))).max(axis=2)
    off = float(np.quantile(difference, 0.99))
    part: Mask = difference < max(0.25 * off, MIN_CONTRAST)
    return part


def _smooth_part(coarse: NDArray[Any]) -> Mask:
    """Return the largest smooth piece of a picture, and all that is smooth and as bright."""
    calm = np.moveaxis(_box_means(np.moveaxis(coarse, 2, 0), 1), 0, 2)
    slopes = [
        np.abs(np.diff(calm, axis=axis, append=calm.take([-1], axis))).max(axis=2)
        for axis in (0, 1)
    ]
    edge = np.maximum(*slopes)
    # The calmest pixels show the grain, even where outlines fill the picture.
    limit = max(6 * float(np.quantile(edge, 0.1)), 0.2 * float(np.quantile(edge, 0.995)))
    smooth: Mask = dilate((edge > limit).astype(np.float32), 1) == 0
    labels, regions = label_regions(smooth, np.ones(smooth.shape, np.float32))
    if not regions:
        return np.ones(smooth.shape, np.bool_)
    near, far = _split(calm, labels, labels == max(regions, key=lambda r: r.area).label)
    # The largest piece may be a thick stroke; but paper is what the picture's sides see first, if
    # that is no line around a cell, which is far thinner than the paper within.
    is_seen_first = _count_seen(smooth, far) > _count_seen(smooth, near)
    width = stroke_width(near)
    if is_seen_first and width < min(MAX_STROKE * max(near.shape), 2.5 * stroke_width(far)):
        near = _split(calm, labels, far)[0]
    part = _split(calm, labels, near)[0] if near.any() else near
    if not part.any():
        return smooth
    for r in regions:
        if _is_beside(r, labels):
            part |= labels == r.label
    return part


def _split(calm: NDArray[Any], labels: NDArray[np.int32], part: Mask) -> tuple[Mask, Mask]:
    """Return what is about as bright as a part of a picture continued, and what is far off.

    What is far off is ink, or the table under the sheet. Only smooth pieces are considered, and
    those of which most is as bright.
    """
    difference = np.abs(calm - _fill(calm, part, share_near=0)).max(axis=2)
    off = float(np.quantile(difference, 0.99))
    near = (labels > 0) & (difference < max(0.2 * off, MIN_CONTRAST))
    areas = np.bincount(labels.ravel())
    mostly = np.bincount(labels[near], minlength=len(areas)) > 0.5 * areas
    return near & mostly[labels], (labels > 0) & (difference > 0.5 * off)


def _count_seen(smooth: Mask, part: Mask) -> int:
    """Count the rows and columns whose first smooth pixel, from either end, is of a part."""
    count = 0
    for turned, mask in ((smooth, part), (smooth.T, part.T)):
        for step in (1, -1):
            first = turned[:, ::step].argmax(axis=1)
            count += int(mask[:, ::step][np.arange(len(first)), first].sum())
    return count


def _is_beside(r: Region, labels: NDArray[np.int32]) -> bool:
    """Tell whether a piece along the picture's sides is paper in a hard shadow, or the table."""
    height, width = labels.shape
    sides = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    if (sides == r.label).sum() <= SIDES * len(sides):
        return False
    corners = labels[[0, 0, -1, -1], [0, -1, 0, -1]]
    middle = labels[height // 4 : height - height // 4, width // 4 : width - width // 4]
    is_corner = (corners == r.label).sum() == 1 and r.label not in middle
    return is_corner or stroke_width(labels == r.label) > WIDE * max(height, width)


def _fill(values: NDArray[Any], part: Mask, *, share_near: float = 1.0) -> NDArray[Any]:
    """Continue the values (H, W, 3) of a part smoothly over the rest.

    Args:
        values: Of the picture.
        part: (H, W), not empty.
        share_near: Weight of the pixels within 6; those within 36 have a thousandth.
    """
    weighted = np.concatenate([np.moveaxis(values, 2, 0), np.ones((1, *part.shape))])
    weighted = (weighted * part).astype(np.float32)  # (4, H, W): three colours, and the weight
    total = 1e-9 * weighted.mean(axis=(1, 2), keepdims=True)
    # Near by where there is anything near by; what is farther counts a thousandth as much.
    for share, radii in ((share_near, (3, 3)), (1e-3, (12, 12, 12)), (1e-6, (COARSE // 3,))):
        total = total + np.float32(share) * _box_means(weighted, *radii)
    return np.moveaxis(total[:3] / total[3], 0, 2)


def _box_means(planes: NDArray[Any], *radii: int) -> NDArray[Any]:
    """Return (C, H, W) with each pixel the mean over (2 radius + 1)^2 of them, radius by radius.

    At an edge it is the mean over those that are there.
    """
    down, across = (_smoother(length, radii) for length in planes.shape[1:])
    result: NDArray[Any] = down @ planes @ across.T
    return result


@lru_cache(maxsize=256)
def _smoother(length: int, radii: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the (length, length) matrix that takes box means of these radii along one axis.

    At these sizes a product with it is several times as fast as running sums.
    """
    apart = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    result = np.eye(length)
    for radius in radii:
        box = (apart <= radius).astype(np.float64)
        result = box / box.sum(axis=1, keepdims=True) @ result
    return result.astype(np.float32)


def resize(rgb: NDArray[Any], size: tuple[int, int], kind: Image.Resampling) -> NDArray[Any]:
    """Resize each colour of (H, W, 3) to `size`, width and height."""
    return np.stack([resize_grey(rgb[:, :, c], size, kind) for c in range(3)], axis=2)


def resize_grey(grey: Grey, size: tuple[int, int], kind: Image.Resampling) -> Grey:
    """Resize (H, W) to `size`, width and height."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize(size, kind))


def find_ink(rgb: NDArray[Any], *, of_writing: bool = False) -> Ink:
    """Measure how far each pixel is from the paper, along the colour in which ink differs most.

    Args:
        rgb: (H, W, 3) in [0, 1].
        of_writing: As for `find_paper`.
    """
    height, width = rgb.shape[:2]
    paper, coarse = find_paper(rgb, of_writing=of_writing)
    # A drawing's thin strokes would be lost in a coarse picture of it.
    stride = max(1, max(height, width) // 256)
    samples = rgb[::stride, ::stride] if coarse is None else coarse
    difference = (samples - paper).reshape(-1, 3)
    # Lightness counts a little in any case, so that a grey picture has one answer.
    scatter = difference.T @ difference / len(difference) + 1e-6 * np.ones((3, 3))
    axis = np.linalg.eigh(scatter.astype(np.float64))[1][:, -1].astype(np.float32)
    axis *= (np.sign(axis.sum()) or 1) / np.float32(3**0.5)
    level = resize_grey(paper @ axis, (width, height), Image.Resampling.BILINEAR)
    signed = rgb @ axis - level
    is_light = float(np.einsum("ij,ij,ij->", signed, signed, signed)) > 0
    strength = signed if is_light else -signed
    if coarse is not None and enlargement(height, width) == 1:
        strength = smooth3(strength)
    sample = strength[::3, ::3] if strength.size > 10_000 else strength
    # Ink may cover half of it, but is on one side alone.
    sample = sample[sample <= 0]
    return Ink(
        strength=strength,
        noise=1.4826 * float(np.median(np.abs(sample))) if sample.size else 0.0,
        is_light_on_dark=is_light,
        is_flat=coarse is None,
        paper=paper,
    )
