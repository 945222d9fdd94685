from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lenet.reading.graph import log_probabilities, read_line, sweep_line
from lenet.reading.segment import Line, arc_image, find_arcs, find_lines, piece_heights
from lenet.reading.strings import make_amount, make_string

Array = np.ndarray[Any, Any]


def page_of_bars(rows: int = 1, touching: bool = False) -> Array:
    """Rows of three upright bars and a comma, dark on light; two of the bars may touch."""
    image = Image.new("RGB", (300, 100 * rows), "white")
    pen = ImageDraw.Draw(image)
    for row in range(rows):
        top = 100 * row + 20
        for x in (40, 120, 200):
            pen.rectangle((x, top, x + 8, top + 60), fill="black")
        pen.rectangle((245, top + 55, 250, top + 66), fill="black")
        if touching:
            pen.line((44, top + 30, 124, top + 30), fill="black", width=3)
    return np.asarray(image, dtype=np.float32) / 255


def as_ones(images: Array) -> Array:
    """A network that knows bars: an upright one is a 1, all else rubbish."""
    logits = np.full((len(images), 10), -8.0)
    for i, image in enumerate(images):
        columns = np.nonzero(image.max(axis=0) > 100)[0]
        rows = np.nonzero(image.max(axis=1) > 100)[0]
        if np.ptp(columns) < 0.4 * np.ptp(rows):
            logits[i, 1] = 8.0
    return logits


@pytest.mark.parametrize("touching", [False, True])
def test_bars_are_read_and_the_comma_is_not(touching: bool) -> None:
    lines = find_lines(page_of_bars(touching=touching))
    assert len(lines) == 1
    assert [c.label for c in read_line(lines[0], as_ones)] == [1, 1, 1]


def test_two_strokes_with_a_gap_between_them_are_two_digits() -> None:
    """Even if the network takes the two for one digit more gladly."""
    image = Image.new("RGB", (200, 100), "white")
    pen = ImageDraw.Draw(image)
    for x in (60, 90):
        pen.rectangle((x, 20, x + 8, 80), fill="black")
    line = find_lines(np.asarray(image, dtype=np.float32) / 255)[0]
    arcs = {(arc.first, arc.end): arc for arc in find_arcs(line)}
    assert set(arcs) == {(0, 1), (1, 2), (0, 2)}
    boxes = line.boxes
    assert arcs[0, 2].gap * line.height == pytest.approx(boxes[1][0] - boxes[0][2])
    assert arcs[0, 1].gap == arcs[1, 2].gap == 0
    logits = np.array([[9.0 if end - first == 2 else 5.0] for first, end in arcs])
    assert [(c.first, c.end) for c in read_line(line, lambda _: logits)] == [(0, 1), (1, 2)]


def test_lines_come_from_top_to_bottom() -> None:
    lines = find_lines(page_of_bars(3))
    assert [len(read_line(line, as_ones)) for line in lines] == [3, 3, 3]
    assert [line.patch.box[1] for line in lines] == sorted(line.patch.box[1] for line in lines)


def test_blank_paper_has_no_lines() -> None:
    assert find_lines(np.ones((60, 200, 3), np.float32)) == []


def test_the_way_that_is_found_is_the_cheapest_of_all() -> None:
    """Against all ways through a short line, one by one."""
    import lenet.reading.graph as module

    line = find_lines(page_of_bars())[0]
    assert len(line.boxes) == 4
    rng = np.random.default_rng(0)
    arcs = find_arcs(line)

    def ways(start: int) -> list[list[tuple[int, int]]]:
        if start >= len(line.boxes):
            return [[]]
        result = list(ways(start + 1))
        for arc in arcs:
            if arc.first == start:
                result += [[(arc.first, arc.end), *rest] for rest in ways(arc.end)]
        return result

    all_ways = ways(0)
    assert len(all_ways) > 10
    for _ in range(10):
        logits = rng.normal(scale=4, size=(len(arcs), 10))
        found = read_line(line, lambda _: logits)  # noqa: B023  # called at once
        scores = log_probabilities(logits)
        heights = piece_heights(line)

        def cost(
            chosen: list[tuple[int, int]], scores: Array = scores, heights: Array = heights
        ) -> float:
            covered = {p for first, end in chosen for p in range(first, end)}
            total = sum(
                module.SKIP_COST * min(1.0, heights[p]) ** 2
                for p in range(len(line.boxes))
                if p not in covered
            )
            for number, arc in enumerate(arcs):
                if (arc.first, arc.end) in chosen:
                    total += module._shape_cost(arc) - scores[number].max()
            return float(total)

        cheapest = min(cost(way) for way in all_ways)
        assert cost([(c.first, c.end) for c in found]) == pytest.approx(cheapest)


def test_chances_and_rubbish_sum_to_one() -> None:
    logits = np.array([[1000.0, 0, 0], [-1000.0, -1000, -1000], [0.0, 1, 2]])
    chances = np.exp(log_probabilities(logits))
    assert chances[0, 0] == pytest.approx(1)
    assert chances[1].sum() == pytest.approx(0)
    expected = np.exp([0, 1, 2]) / (1 + np.exp([0.0, 1, 2]).sum())
    assert chances[2] == pytest.approx(expected)


def test_every_pixel_of_ink_is_in_one_piece() -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((4, 28, 28), np.uint8)
    images[:, 4:24, 8:12] = images[:, 4:8, 8:20] = 255
    string = make_string(images, np.arange(4), rng, length=4, gaps=(-1, 0))
    rgb = np.repeat(string.image[:, :, None] / np.float32(255), 3, axis=2)
    lines = find_lines(rgb)
    assert len(lines) == 1
    line: Line = lines[0]
    assert ((line.cells > 0) == (line.strength > 0.3)).mean() > 0.98
    assert set(np.unique(line.cells)) == set(range(len(line.boxes) + 1))
    for arc in find_arcs(line):
        assert arc_image(line, arc).shape == (28, 28)


@pytest.mark.parametrize("slant", [0.0, 0.3, 0.6])
def test_a_digit_is_cut_out_of_a_line_as_it_was(slant: float) -> None:
    """Where it leans little, and is as large as MNIST has it; what leans much is made upright."""
    images = np.zeros((3, 28, 28), np.uint8)
    for row in range(4, 24):
        middle = 14 + round((14 - row) * slant)
        images[:, row, middle - 1 : middle + 2] = 255
        images[row // 13, row, middle + 2 : middle + 5] = 255
    string = make_string(images, np.arange(3), np.random.default_rng(2), length=6, gaps=(4, 4))
    rgb = np.repeat(string.image[:, :, None] / np.float32(255), 3, axis=2)
    line = find_lines(rgb)[0]
    assert len(line.boxes) == 6
    differences, widths = [], []
    for arc in find_arcs(line):
        if arc.end - arc.first == 1:
            found = arc_image(line, arc).astype(float)
            original = images[int(string.text[arc.first])].astype(float)
            # MNIST's digits are centred, which these are not.
            places = [np.roll(original, (y, x), (0, 1)) for y in range(-4, 5) for x in range(-4, 5)]
            differences.append(min(np.abs(found - place).mean() for place in places))
            widths.append(np.ptp(np.nonzero((found > 127).any(axis=0))[0]))
    if slant < 0.5:
        assert max(differences) < 4
    else:
        assert max(widths) <= 12


def test_a_sweep_counts_a_digit_once() -> None:
    line = find_lines(page_of_bars())[0]

    def sweep(field: Array) -> Array:
        """A 1 wherever a bar lies near the middle of the window."""
        places = (field.shape[2] - 32) // 4 + 1
        logits = np.full((1, 1, places, 10), -6.0)
        for p in range(places):
            if field[0, 10:20, 4 * p + 12 : 4 * p + 20].max() > 0.5:
                logits[0, 0, p, 1] = 6.0
        return logits

    assert [c.label for c in sweep_line(line, sweep)] == [1, 1, 1]


def test_strings_are_the_same_for_the_same_seed_and_say_whose_ink_is_whose() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 4:24, 10:18] = 200
    labels = np.array([3, 5, 7])
    first, again = (
        make_string(images, labels, np.random.default_rng(2), length=6, gaps=(2, 2), noise=0.05)
        for _ in range(2)
    )
    assert first.text == again.text
    assert np.array_equal(first.image, again.image)
    assert set(first.text) <= set("357")
    assert set(np.unique(first.owners)) == set(range(7))
    for place in range(1, 6):
        right = np.nonzero((first.owners == place).any(axis=0))[0][-1]
        left = np.nonzero((first.owners == place + 1).any(axis=0))[0][0]
        assert left - right - 1 == 2
    joined = make_string(
        images, labels, np.random.default_rng(2), length=2, gaps=(4, 4), ligatures=1.0
    )
    gap = np.nonzero((joined.owners == 1).any(axis=0))[0][-1] + 2
    assert joined.image[:, gap].max() > 100


def test_amounts_are_the_same_for_the_same_seed_and_say_whose_ink_is_whose() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 4:24, 12:16] = images[:, 20:24, 6:22] = 255
    labels = np.ones(3, np.int64)
    first, again = (
        make_amount(images, labels, np.random.default_rng(3), length=6) for _ in range(2)
    )
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.owners, again.owners)
    for seed in range(10):
        amount = make_amount(images, labels, np.random.default_rng(seed), length=4)
        assert amount.image.shape == amount.owners.shape
        assert amount.text == "1111"
        assert set(np.unique(amount.owners)) <= set(range(5))
        rgb = np.repeat(amount.image[:, :, None] / np.float32(255), 3, axis=2)
        lines = find_lines(rgb)
        assert lines
        owners = lines[0].patch.project(amount.owners)
        # What has an owner is ink, thinned strokes apart.
        assert (lines[0].cells > 0)[owners > 0].mean() > 0.5


def test_a_page_of_very_many_pieces_is_bounded() -> None:
    image = Image.new("L", (400, 400), 255)
    pen = ImageDraw.Draw(image)
    for y in range(4, 390, 24):
        for x in range(4, 396, 6):
            pen.line((x, y, x, y + 16), fill=0, width=2)
    rgb = np.repeat(np.asarray(image, dtype=np.float32)[:, :, None] / 255, 3, axis=2)
    assert len(find_lines(rgb[:23])) == 1
    # The largest pieces are kept, so that no picture makes more of them than can be listed.
    assert sum(len(line.boxes) for line in find_lines(rgb)) <= 800
