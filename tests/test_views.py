import numpy as np
import pytest
from PIL import Image

from lenet.reading.views import turn


def test_images_are_turned_as_pillow_turns_them() -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 8:20, 8:20] = rng.integers(0, 256, (3, 12, 12))
    for angle in (-30.0, -6.0, 6.0, 90.0):
        for image, turned in zip(images, turn(images, angle), strict=True):
            # Pillow's angles are counter-clockwise.
            expected = Image.fromarray(image).rotate(-angle, Image.Resampling.BILINEAR)
            assert np.abs(turned.astype(int) - np.asarray(expected)).max() <= 2


def test_what_is_turned_is_then_moved() -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images[:, 8:20, 8:20] = np.random.default_rng(2).integers(0, 256, (2, 12, 12))
    for angle in (0.0, 6.0):
        expected = np.roll(turn(images, angle), (1, 1), (1, 2))
        assert np.array_equal(turn(images, angle, 1.0), expected)


@pytest.mark.parametrize("num", [0, 1, 5])
def test_not_turned_is_the_same(num: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (num, 28, 28)).astype(np.uint8)
    assert np.array_equal(turn(images, 0.0), images)
