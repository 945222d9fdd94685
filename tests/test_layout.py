from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lenet.reading.layout import KEPT_SLANT, find_patches, find_slant
from lenet.reading.lines import fade_lines

Array = np.ndarray[Any, Any]


def page_of_strokes(slant: float, *, side: int = 60, ruling: int = 0) -> Array:
    """Four strokes that lean by `slant` columns a row; a grey line under them if asked for."""
    image = Image.new("L", (6 * side, 2 * side), 255)
    pen = ImageDraw.Draw(image)
    if ruling:
        pen.line((0, 1.5 * side, 6 * side, 1.5 * side), fill=255 - ruling, width=2)
    for x in range(side, 5 * side, side):
        pen.line((x + slant * side, side // 2, x, 1.5 * side), fill=0, width=4)
    return np.repeat(np.asarray(image, dtype=np.float32)[:, :, None] / 255, 3, axis=2)


@pytest.mark.parametrize("slant", [-0.2, 0.0, 0.3, 0.7])
def test_the_slant_of_strokes_is_found(slant: float) -> None:
    mask = page_of_strokes(slant)[:, :, 0] < 0.5
    assert find_slant(mask) == pytest.approx(slant - KEPT_SLANT, abs=0.051)


def test_slanted_writing_is_made_upright() -> None:
    patches = find_patches(page_of_strokes(0.6))
    assert len(patches) == 1
    patch = patches[0]
    for number in range(1, 5):
        columns = np.nonzero((patch.parts == number).any(axis=0))[0]
        assert np.ptp(columns) < 0.4 * patch.height


@pytest.mark.parametrize("side", [30, 130])
def test_a_patch_knows_where_it_comes_from(side: int) -> None:
    """Small pictures are enlarged, large ones are not."""
    rgb = page_of_strokes(0.5, side=side)
    patch = find_patches(rgb)[0]
    left, top, right, bottom = patch.box
    rows, columns = np.nonzero(rgb[:, :, 0] < 0.5)
    assert abs(rows.min() - top) <= 1
    assert abs(rows.max() + 1 - bottom) <= 1
    assert abs(columns.min() - left) <= 1
    assert abs(columns.max() + 1 - right) <= 1
    scale = 2 if side == 30 else 1
    assert (patch.parts > 0).sum() == pytest.approx(len(rows) * scale**2, rel=0.1)


def test_a_ruling_is_faded_and_strokes_that_cross_it_stay() -> None:
    plain, ruled = (1 - page_of_strokes(0.2, ruling=r)[:, :, 0] for r in (0, 90))
    faded = fade_lines(ruled, 0.1)
    assert np.abs(ruled - plain).max() > 0.3
    assert np.abs(faded - plain).mean() < 0.1 * np.abs(ruled - plain).mean() + 0.01
    assert ((faded > 0.5) == (plain > 0.5)).mean() > 0.999


def test_feet_of_digits_are_no_ruling() -> None:
    """Feet on one level, with gaps between them."""
    strength = np.zeros((60, 300), np.float32)
    for x in range(10, 290, 40):
        strength[20:40, x + 10 : x + 13] = 1
        strength[38:40, x : x + 28] = 1
    assert np.array_equal(fade_lines(strength, 0.1), strength)


def test_a_table_edge_at_the_side_is_no_line_of_writing() -> None:
    rgb = page_of_strokes(0.0)
    rgb[-8:] = 0.1
    assert len(find_patches(rgb)) == 1
