from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from lenet.reading.layout import find_patches
from lenet.reading.number import (
    line_field,
    log_probabilities,
    propose,
    read_line,
    string_scores,
)
from lenet.reading.reader import Reader


def table(places: int, classes: int, seed: int = 0) -> np.ndarray:
    return log_probabilities(2 * np.random.default_rng(seed).normal(size=(places, classes)))


def test_garbage_has_the_logit_0() -> None:
    logits = np.random.default_rng(0).normal(size=(7, 10))
    padded = torch.cat([torch.from_numpy(logits), torch.zeros(7, 1)], 1)
    np.testing.assert_allclose(log_probabilities(logits), padded.log_softmax(1), atol=1e-12)


@pytest.mark.parametrize("text", [(), (3,), (4, 4), (1, 2, 2, 9, 0)])
def test_a_strings_score_is_torchs_ctc_loss(text: tuple[int, ...]) -> None:
    found = table(30, 10)
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(found).unsqueeze(1),
        torch.tensor(text, dtype=torch.long),
        torch.tensor([30]),
        torch.tensor([len(text)]),
        blank=10,
        reduction="sum",
    )
    scores = string_scores(found, [(7,) * 8, text, ()])
    assert scores[1] == pytest.approx(-float(loss))


@pytest.mark.parametrize("seed", range(5))
def test_the_first_string_proposed_is_the_likeliest_of_all(seed: int) -> None:
    found = table(4, 2, seed)
    texts = [text for length in range(5) for text in product((0, 1), repeat=length)]
    scores = string_scores(found, texts)
    assert np.logaddexp.reduce(scores) == pytest.approx(0)
    assert propose(found)[0] == texts[int(np.argmax(scores))]


def bars(num: int, *, slant: float = 0.0) -> np.ndarray:
    """Upright bars, dark on light, (100, 300, 3) in [0, 1]."""
    image = Image.new("RGB", (300, 100), "white")
    pen = ImageDraw.Draw(image)
    for x in range(40, 40 + 70 * num, 70):
        pen.line((x + 60 * slant, 20, x, 80), fill="black", width=8)
    return np.asarray(image, dtype=np.float32) / 255


def test_a_lines_field_has_digits_of_20_pixels_in_its_middle() -> None:
    (patch,) = find_patches(bars(3))
    rows = np.nonzero(line_field(patch).max(axis=1) > 0.5)[0]
    assert rows[-1] - rows[0] + 1 == pytest.approx(20, abs=1)
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(16, abs=1)


def as_ones(fields: np.ndarray) -> np.ndarray:
    """A network that calls what has ink in its middle column a 1, sure of it."""
    places = range(0, fields.shape[2] - 31, 2)
    has_ink = np.stack([fields[:, :, x + 15 : x + 17].max(axis=(1, 2)) > 0.5 for x in places], 1)
    logits = np.full((*has_ink.shape, 10), -9.0)
    logits[..., 1] = np.where(has_ink, 9.0, -9.0)
    return logits


@pytest.mark.parametrize("slant", [0.0, 0.5])
def test_each_bar_of_a_line_is_read_once(slant: float) -> None:
    (patch,) = find_patches(bars(3, slant=slant))
    found = read_line(patch, as_ones)
    assert found.labels == (1, 1, 1)
    assert found.probability > 0.99
    assert found.probabilities == pytest.approx([1, 1, 1], abs=0.01)


def test_what_is_garbage_everywhere_has_no_labels() -> None:
    (patch,) = find_patches(bars(2))
    found = read_line(patch, lambda fields: as_ones(0 * fields))
    assert found.labels == ()


def test_two_readings_share_the_probability() -> None:
    """One bar of two is a 1 or a 7, as likely as not."""

    def doubtful(fields: np.ndarray) -> np.ndarray:
        logits = as_ones(fields)
        right = logits.shape[1] // 3
        logits[:, right:, 7] = logits[:, right:, 1] - 0.1
        return logits

    (patch,) = find_patches(bars(2))
    found = read_line(patch, doubtful)
    assert found.labels == (1, 1)
    assert found.probabilities[0] > 0.99
    assert 0.3 < found.probability <= found.probabilities[1] < 0.8


def test_a_turned_page_is_read_and_says_so() -> None:
    reader = Reader(
        lambda images: np.zeros((len(images), 10), np.float32), has_garbage=True, sweep=as_bars
    )
    page = np.rot90(bars(3), -1)
    number = reader.read_number((page * 255).astype(np.uint8))
    assert number.text == "111"
    assert number.turned in (90, 270)  # bars look the same upside down
    (line,) = number.lines
    left, top, right, bottom = line.box
    assert right - left == pytest.approx(60, abs=4)
    assert bottom - top == pytest.approx(148, abs=4)


def as_bars(fields: np.ndarray) -> np.ndarray:
    """A network that knows tall bars alone: thin ink of 15 rows in its middle."""
    logits = as_ones(fields)
    for place in range(logits.shape[1]):
        window = fields[:, :, 2 * place : 2 * place + 32] > 0.5
        is_tall = (window.any(axis=2).sum(axis=1) > 12) & (window.any(axis=1).sum(axis=1) < 12)
        logits[~is_tall, place] = -9.0
    return logits
