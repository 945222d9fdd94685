"""Strokes that writers add to some digits and MNIST's seldom did: a 1's flag and foot, a 7's bar.

A mark is a straight stroke in a training image's own pixels: (y0, x0, y1, x1, radius), none where
the radius is 0. Where it goes follows from the image, measured once; whether and how, from draws.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_MARKS = 2
MARK_VALUES = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Anchors:
    """Where marks begin, for each training image."""

    is_one: NDArray[np.bool_]
    is_seven: NDArray[np.bool_]
    ends: NDArray[np.float32]
    """(N, 4): y, x of the middle of the topmost ink, then of the lowest."""
    stem: NDArray[np.float32]
    """(N,): x of the ink's middle at half height."""
    radius: NDArray[np.float32]
    """(N,): half the stroke's width at half height."""


def find_anchors(images: Tensor, labels: Tensor) -> Anchors:
    """Measure training images.

    Args:
        images: (N, 28, 28) uint8.
        labels: (N,) int64.
    """
    ink: NDArray[np.bool_] = np.greater(images.cpu().numpy(), 127)
    num_rows, columns = ink.shape[1], np.arange(ink.shape[2], dtype=np.float32)
    filled = np.max(ink, axis=2)
    top = filled.argmax(axis=1)
    bottom = num_rows - 1 - filled[:, ::-1].argmax(axis=1)
    middle = (top + bottom) // 2

    def centre(rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        chosen = np.take_along_axis(ink, rows[:, None, None], axis=1)[:, 0].astype(np.float32)
        count = chosen.sum(axis=1)
        return (chosen @ columns) / np.maximum(count, 1), count

    (x_top, _), (x_bottom, _), (x_middle, width) = centre(top), centre(bottom), centre(middle)
    names = labels.cpu().numpy()
    return Anchors(
        is_one=names == 1,
        is_seven=names == 7,
        ends=np.stack([top, x_top, bottom, x_bottom], axis=1).astype(np.float32),
        stem=x_middle.astype(np.float32),
        radius=np.clip(width / 2, 0.6, 2.0).astype(np.float32),
    )


def place_marks(
    anchors: Anchors, places: Tensor, draws: NDArray[np.float32], share: float
) -> NDArray[np.float32]:
    """Return the marks of some images.

    Args:
        anchors: Of all training images.
        places: (B,) int64, which of them.
        draws: (B, 5) in [0, 1).
        share: Of the ones and sevens that get marks.

    Returns:
        (B, 2, 5) float32.
    """
    index = places.cpu().numpy()
    marks = np.zeros((len(index), NUM_MARKS, MARK_VALUES), np.float32)
    wanted = draws[:, 0] < share
    y0, x0, y1, x1 = anchors.ends[index].T
    radius = anchors.radius[index]
    ones = np.nonzero(wanted & anchors.is_one[index])[0]
    # The flag leaves the stem's top, turned from its direction towards the lower left.
    angle = np.arctan2(x1 - x0, y1 - y0) - np.deg2rad(25 + 35 * draws[:, 1])
    length = (0.2 + 0.4 * draws[:, 2]) * (y1 - y0)
    flag = np.stack(
        [y0 + 1, x0, y0 + 1 + length * np.cos(angle), x0 + length * np.sin(angle), radius]
    )
    marks[ones, 0] = flag.T[ones]
    feet = ones[draws[ones, 3] < 0.4]
    half = (0.15 + 0.25 * draws[:, 4]) * (y1 - y0)
    foot = np.stack([y1, x1 - half, y1, x1 + half, radius])
    marks[feet, 1] = foot.T[feet]
    sevens = np.nonzero(wanted & anchors.is_seven[index])[0]
    stem, height = anchors.stem[index], (0.45 + 0.15 * draws[:, 1]) * (y1 - y0) + y0
    # The bar's own place along the slanted stem is close enough to the middle's.
    reach, tilt = (0.15 + 0.15 * draws[:, 2]) * (y1 - y0), 2 * draws[:, 3] - 1
    bar = np.stack([height + tilt, stem - reach, height - tilt, stem + reach, radius])
    marks[sevens, 0] = bar.T[sevens]
    return marks


def draw_marks(x: Tensor, marks: Tensor) -> Tensor:
    """Draw marks over images with torch.

    Args:
        x: (B, 1, 28, 28) float in [0, 1].
        marks: (B, M, 5) float32.
    """
    rows = torch.arange(x.shape[2], dtype=torch.float32, device=x.device)[:, None]
    columns = torch.arange(x.shape[3], dtype=torch.float32, device=x.device)
    for mark in marks.unbind(1):
        y0, x0, y1, x1, radius = (value[:, None, None] for value in mark.unbind(1))
        dy, dx = y1 - y0, x1 - x0
        along = ((rows - y0) * dy + (columns - x0) * dx) / (dy * dy + dx * dx).clamp(min=1e-6)
        along = along.clamp(0, 1)
        distance = torch.hypot(rows - y0 - along * dy, columns - x0 - along * dx)
        cover = (radius + 0.5 - distance).clamp(0, 1) * (radius > 0)
        x = torch.maximum(x, cover.unsqueeze(1))
    return x
