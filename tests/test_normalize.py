from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scenes import KINDS, make_scene

from lenet.reading.lines import remove_lines
from lenet.reading.normalize import normalize
from lenet.reading.paper import find_ink
from lenet.reading.regions import dilate, label_regions, stroke_width

Array = np.ndarray[Any, Any]


def draw_seven(side: int = 200, *, width: int = 10) -> Array:
    """A 7 of straight strokes, 1 = ink, (side, side) float32."""
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    a, b, c = side * 0.3, side * 0.7, side * 0.8
    pen.line(
        [(a, side * 0.2), (b, side * 0.2), (side * 0.45, c)], fill=255, width=width, joint="curve"
    )
    return np.asarray(image, dtype=np.float32) / 255


def page(ink: Array, *, paper: float = 0.9, dark: float = 0.1) -> Array:
    grey = paper + (dark - paper) * ink
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.float32)


def test_a_digit_is_fitted_and_centred_as_mnist_is() -> None:
    found = normalize(page(draw_seven()))
    assert found.image is not None
    assert not found.is_light_on_dark
    rows = np.nonzero(found.image > 60)[0]
    assert 18 <= rows.max() - rows.min() + 1 <= 21
    mass = found.image.astype(float)
    for axis in (0, 1):
        centre = (mass.sum(axis=1 - axis) * np.arange(28)).sum() / mass.sum()
        # The centre of mass of MNIST's own digits is 14.0, to a pixel; not the middle, 13.5.
        assert centre == pytest.approx(14, abs=0.2)
    assert found.image.max() > 200
    assert found.box is not None
    for side, expected in zip(found.box, (55, 35, 145, 165), strict=True):
        assert abs(side - expected) < 8


def difference(a: Array | None, b: Array | None) -> float:
    assert a is not None
    assert b is not None
    return float(np.abs(a.astype(float) - b).mean() / 255)


def test_polarity_padding_and_scale_do_not_matter() -> None:
    ink = draw_seven()
    expected = normalize(page(ink)).image
    assert difference(normalize(page(ink, paper=0.1, dark=0.9)).image, expected) < 0.005
    assert difference(normalize(page(np.pad(ink, ((80, 10), (0, 150))))).image, expected) < 0.01
    assert difference(normalize(page(draw_seven(600, width=30))).image, expected) < 0.02
    assert difference(normalize(page(draw_seven(60, width=3))).image, expected) < 0.04


def test_thin_strokes_are_thickened_and_thick_ones_are_not() -> None:
    thin = normalize(page(draw_seven(400, width=2))).image
    assert thin is not None
    assert stroke_width(thin > 127) > 1.5
    assert difference(thin, normalize(page(draw_seven(400, width=24))).image) < 0.06


@pytest.mark.parametrize("side", [1, 2, 28, 300])
def test_blank_paper_holds_no_digit(side: int) -> None:
    rng = np.random.default_rng(0)
    for value in (0.0, 0.5, 1.0):
        assert normalize(np.full((side, side, 3), value, np.float32)).image is None
    if side > 100:
        grain = 0.8 + rng.normal(scale=0.02, size=(side, side, 1)) + np.zeros(3)
        light = np.linspace(0.8, 1.1, side)[:, None, None]
        assert normalize((grain * light).clip(0, 1).astype(np.float32)).image is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (5, 5), (28, 28), (65, 64)])
def test_any_shape_and_any_noise_is_survived(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for scale in (0.01, 0.2, 1.0):
        rgb = rng.normal(0.5, scale, (*shape, 3)).clip(0, 1).astype(np.float32)
        found = normalize(rgb, keep_steps=True)
        assert found.image is None or found.image.shape == (28, 28)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dy=st.integers(0, 60),
    dx=st.integers(0, 60),
    scale=st.floats(0.4, 2.0),
    paper=st.floats(0.0, 1.0),
    contrast=st.floats(0.25, 1.0),
)
def test_place_size_and_brightness_do_not_matter(
    dy: int, dx: int, scale: float, paper: float, contrast: float
) -> None:
    side = round(150 * scale)
    ink = np.pad(draw_seven(side, width=max(2, round(8 * scale))), ((dy, 60 - dy), (dx, 60 - dx)))
    dark = max(0.0, paper - contrast) if paper > 0.5 else min(1.0, paper + contrast)
    found = normalize(page(ink, paper=paper, dark=dark))
    assert difference(found.image, normalize(page(draw_seven(150, width=8))).image) < 0.05


def test_uneven_light_is_taken_away() -> None:
    ink = draw_seven(300, width=14)
    light = np.linspace(0.4, 1.0, 300)[None, :, None]
    found = normalize((page(ink) * light).astype(np.float32)).image
    assert difference(found, normalize(page(ink)).image) < 0.02


def test_a_frame_a_line_and_a_neighbour_are_left_out() -> None:
    ink = draw_seven(300, width=12)
    expected = normalize(page(ink)).image
    # Uneven light makes a photograph of it.
    light = np.linspace(0.8, 1.0, 300)[None, :, None]
    framed, lined, crowded = ink.copy(), ink.copy(), ink.copy()
    framed[20:24, 30:270] = framed[276:280, 30:270] = framed[20:280, 30:34] = framed[
        20:280, 266:270
    ] = 1
    lined[255:258] = lined[120:122] = 0.6
    crowded[100:200, :15] = crowded[290:, 100:160] = 1
    for other in (framed, np.maximum(lined, ink), crowded):
        found = normalize((page(other) * light).astype(np.float32)).image
        assert difference(found, expected) < 0.03


def test_a_digit_in_pieces_is_one_digit() -> None:
    ink = draw_seven(300, width=12)
    broken = ink.copy()
    broken[120:130] = 0
    assert difference(normalize(page(broken)).image, normalize(page(ink)).image) < 0.03


def test_a_crooked_frame_is_left_out() -> None:
    ink = draw_seven()
    image = Image.fromarray((ink * 255).astype(np.uint8))
    corners = [(20, 30), (160, 12), (186, 160), (30, 190)]
    ImageDraw.Draw(image).line([*corners, *corners[:2]], fill=255, width=9)
    expected = normalize(page(ink)).image
    assert difference(normalize(page(np.asarray(image) / np.float32(255))).image, expected) < 0.01


def draw_nine(side: int = 220, *, width: int = 24) -> Array:
    """A 9 that meets three sides of its picture with the bends and the end of its stroke."""
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    pen.ellipse((0, 0, 0.6 * side, 0.5 * side), outline=255, width=width)
    pen.line([(0.56 * side, 0.25 * side), (0.3 * side, side)], fill=255, width=width)
    return np.asarray(image, dtype=np.float32) / 255


def test_a_drawn_digit_may_meet_three_sides_and_a_margin_or_lattice_may_not() -> None:
    nine = draw_nine()
    expected = normalize(page(np.pad(nine, 30))).image
    assert difference(normalize(page(nine)).image, expected) < 0.01
    margin = np.zeros((200, 200), np.float32)
    margin[:, :25] = 1
    assert normalize(page(margin)).image is None
    y, x = np.mgrid[:200, :200]
    lattice = ((y + x) % 40 < 3) | ((y - x) % 40 < 3)
    assert normalize(page(lattice.astype(np.float32))).image is None


def shoot(ink: Array, rng: np.random.Generator, *, dark: float = 0.25) -> Array:
    """A photograph of ink: light from one corner, and grain."""
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]] / max(ink.shape)
    paper = (0.75 + 0.12 * x - 0.1 * y)[:, :, None]
    grain = rng.normal(scale=0.01, size=(*ink.shape, 1))
    scene = paper + (dark - paper) * ink[:, :, None] + grain + np.zeros(3)
    return np.asarray(scene.clip(0, 1), dtype=np.float32)


@pytest.mark.parametrize("side", [32, 48, 64, 100])
@pytest.mark.parametrize("sides", ["", "l", "lt", "ltrb"])
def test_a_cell_is_read_without_its_lines_at_any_size(side: int, sides: str) -> None:
    rng = np.random.default_rng(side)
    cell = np.zeros((400, 400), np.float32)
    for turns, name in enumerate("trbl"):
        np.rot90(cell, turns)[:14] = name in sides
    full = np.maximum(cell, draw_seven(400, width=36))
    empty, full = (
        np.asarray(Image.fromarray(ink).resize((side, side), Image.Resampling.LANCZOS))
        for ink in (cell, full)
    )
    assert normalize(shoot(empty, rng)).image is None
    expected = normalize(page(draw_seven(400, width=36))).image
    assert difference(normalize(shoot(full, rng)).image, expected) < 0.06


@pytest.mark.parametrize("width", [10, 24, 40])
def test_a_digit_cut_to_its_bounding_box_is_whole(width: int) -> None:
    nine = draw_nine(width=width)
    rows, columns = (np.nonzero(nine.any(axis=1 - axis))[0] for axis in (0, 1))
    tight = nine[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    expected = normalize(page(np.pad(nine, 30))).image
    rng = np.random.default_rng(0)
    for scene in (page(tight), page(tight, paper=0.1, dark=0.9), shoot(tight, rng)):
        assert difference(normalize(scene).image, expected) < 0.03


@pytest.mark.parametrize("share", [0.84, 0.95])
@pytest.mark.parametrize("width", [3, 10])
def test_a_long_straight_stem_is_no_ruled_line(share: float, width: int) -> None:
    image = Image.new("L", (400, 400))
    pen = ImageDraw.Draw(image)
    top, bottom = round(200 - 200 * share), round(200 + 200 * share)
    pen.line([(200, top), (200, bottom)], fill=255, width=width)
    one = normalize(page(np.asarray(image, np.float32) / 255))
    pen.ellipse((40, top, 200, top + 160), outline=255, width=width)
    nine = normalize(page(np.asarray(image, np.float32) / 255))
    for found in (one, nine):
        assert found.box is not None
        assert abs(found.box[1] - top) <= 2
        assert abs(found.box[3] - bottom) <= 2


def test_a_faint_digit_in_a_small_shaded_crop_is_found() -> None:
    ink = draw_seven(400, width=30)
    small = np.asarray(Image.fromarray(ink).resize((48, 48), Image.Resampling.BOX))
    found = normalize(shoot(small, np.random.default_rng(1), dark=0.6)).image
    assert difference(found, normalize(page(ink)).image) < 0.08


def test_a_faint_stroke_in_pieces_is_one_digit_in_a_small_picture() -> None:
    whole = draw_seven(60, width=4)[::2, ::2]
    broken = whole.copy()
    broken[[10, 15, 20]] *= 0.1
    broken[:8, [12, 17]] *= 0.1
    assert difference(normalize(page(broken)).image, normalize(page(whole)).image) < 0.05


@pytest.mark.parametrize(
    ("left", "top", "width", "height"), [(0, 40, 250, 180), (300, 280, 70, 60)]
)
def test_a_card_on_a_page_is_cut_out(left: int, top: int, width: int, height: int) -> None:
    """As in a screenshot: a dark canvas with a light digit, on a page as light as that."""
    seven = draw_seven(height, width=max(4, height // 20))
    card = np.ones((height, width), np.float32)
    card[:, 10 : 10 + height] -= seven[:, : width - 10]
    sheet = np.zeros((400, 420), np.float32)
    sheet[top : top + height, left : left + width] = card
    for dark, paper in ((0.1, 0.9), (0.9, 0.1)):
        found = normalize(page(sheet, paper=paper, dark=dark))
        assert difference(found.image, normalize(page(seven)).image) < 0.03
        assert found.box is not None
        assert left < found.box[0] < found.box[2] < left + width
        assert top < found.box[1] < found.box[3] < top + height


def test_a_blocky_eight_is_no_card() -> None:
    eight = np.zeros((300, 300), np.float32)
    eight[40:260, 80:220] = 1
    eight[80:130, 120:180] = eight[170:220, 120:180] = 0
    found = normalize(page(eight))
    assert found.box == (80, 40, 220, 260)


def test_a_patterned_table_along_the_sheet_is_left_out() -> None:
    scene = page(np.pad(draw_seven(240, width=6), ((160, 0), (0, 0))), dark=0.5)
    scene *= np.linspace(1, 0.85, scene.shape[0])[:, None, None]
    rng = np.random.default_rng(0)
    scene[:90] = np.kron(rng.choice([0.05, 0.3], size=(18, 48, 1)), np.ones((5, 5, 3)))
    scene[20:80, 90:160] = 0.85
    scene[30:70, 100:150] = 0.1
    grain = rng.normal(scale=0.01, size=scene.shape)
    found = normalize((scene + grain).clip(0, 1).astype(np.float32))
    assert found.box is not None
    assert found.box[1] > 180


def test_lines_are_removed_but_for_the_strokes_that_cross_them() -> None:
    mask = np.zeros((100, 200), np.bool_)
    mask[20:80, 95:101] = True
    expected = mask.copy()
    mask[50:52] = True
    assert np.array_equal(remove_lines(mask)[:, 95:101], expected[:, 95:101])
    assert remove_lines(mask).sum() <= expected.sum() + 40
    assert np.array_equal(remove_lines(mask.T), remove_lines(mask).T)
    assert np.array_equal(remove_lines(expected), expected)


def test_regions_are_those_of_a_flood_fill() -> None:
    rng = np.random.default_rng(0)
    for density in (0.1, 0.4, 0.6, 0.9):
        mask = rng.random((40, 50)) < density
        ink = rng.random((40, 50)).astype(np.float32)
        labels, regions = label_regions(mask, ink)
        seen = np.zeros_like(mask)
        count = 0
        for y, x in zip(*np.nonzero(mask), strict=True):
            if seen[y, x]:
                continue
            count += 1
            stack, piece = [(int(y), int(x))], []
            seen[y, x] = True
            while stack:
                cy, cx = stack.pop()
                piece.append((cy, cx))
                for ny in range(max(0, cy - 1), min(40, cy + 2)):
                    for nx in range(max(0, cx - 1), min(50, cx + 2)):
                        if mask[ny, nx] and not seen[ny, nx]:
                            seen[ny, nx] = True
                            stack.append((ny, nx))
            ys, xs = zip(*piece, strict=True)
            assert len(set(labels[ys, xs].tolist())) == 1
            r = regions[labels[ys[0], xs[0]] - 1]
            assert (r.top, r.left, r.bottom, r.right) == (
                min(ys),
                min(xs),
                max(ys) + 1,
                max(xs) + 1,
            )
            assert r.area == len(piece)
            assert r.peak == ink[ys, xs].max()
            assert r.weight == pytest.approx(float(ink[ys, xs].sum()), rel=1e-4)
        assert count == len(regions)
        assert not labels[~mask].any()


def test_of_very_many_regions_the_heaviest_are_kept() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[::2, ::2] = True
    ink = np.linspace(1, 2, 10_000, dtype=np.float32).reshape(100, 100)
    labels, regions = label_regions(mask, ink)
    assert labels.max() == 2500
    assert [r.label for r in regions] == list(range(1501, 2501))
    assert all(labels[r.top, r.left] == r.label for r in regions)


def test_discs_are_what_they_say() -> None:
    dot = np.zeros((11, 11), np.float32)
    dot[5, 5] = 1
    assert [int(dilate(dot, r).sum()) for r in (0, 1, 2, 3)] == [1, 5, 21, 37]
    assert float(dilate(dot, 1.5)[5, 7]) == 0.5
    bar = np.zeros((50, 50), np.bool_)
    bar[5:45, 20:26] = True
    assert stroke_width(bar) == pytest.approx(6 * 4 / np.pi * 40 / 46, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_are_the_same_for_the_same_seed_and_hold_a_digit(kind: str) -> None:
    digit = (draw_seven(28, width=3) * 255).astype(np.uint8)
    first, again = (make_scene(digit, kind, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert 0 <= first.min() <= first.max() <= 1
    found = normalize(first)
    assert found.image is not None
    assert found.is_light_on_dark == find_ink(first).is_light_on_dark
