"""Images a little turned and moved: what several looks at a digit agree on is more often right."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 28


def turn(images: NDArray[np.uint8], degrees: float, moved: float = 0.0) -> NDArray[np.uint8]:
    """Turn images about their middle, bilinearly sampled, with background outside.

    Args:
        images: (N, 28, 28) uint8.
        degrees: Clockwise.
        moved: Pixels by which they are then moved to the right and down.
    """
    places, weights = _samples(degrees, moved)
    flat = np.zeros((len(images), SIDE * SIDE + 1), np.float32)  # the last one is outside
    flat[:, :-1] = images.reshape(len(images), SIDE * SIDE)
    turned = np.zeros((len(images), SIDE * SIDE), np.float32)
    for place, weight in zip(places, weights, strict=True):
        turned += flat[:, place] * weight
    result: NDArray[np.uint8] = turned.round().astype(np.uint8).reshape(-1, SIDE, SIDE)
    return result


@lru_cache(maxsize=16)
def _samples(degrees: float, moved: float) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the four source pixels of each pixel, (4, 784), and their weights."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    middle = (SIDE - 1) / 2
    y, x = np.mgrid[0:SIDE, 0:SIDE].reshape(2, -1) - middle - moved
    source_y, source_x = middle + cos * y - sin * x, middle + cos * x + sin * y
    top, left = np.floor(source_y).astype(np.int64), np.floor(source_x).astype(np.int64)
    places, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = top + dy, left + dx
            inside = (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE)
            places.append(np.where(inside, row * SIDE + column, SIDE * SIDE))
            share_y = 1 - np.abs(source_y - row)
            weights.append(share_y * (1 - np.abs(source_x - column)))
    return np.stack(places), np.stack(weights).astype(np.float32)
