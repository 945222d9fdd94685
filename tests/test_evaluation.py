import math

import pytest
import torch
from torch import Tensor, nn

from lenet.results.scores import (
    compute_logits,
    evaluate,
    fit_temperature,
    score_logits,
    wilson_interval,
)


def test_scores_of_a_worked_example() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([0, 1, 1, 1])
    scores = score_logits(logits, labels, split="test")
    assert (scores.num_images, scores.num_correct, scores.accuracy) == (4, 3, 0.75)
    assert scores.confusion == ((1, 0), (1, 2))
    losses = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1))]
    losses += [3 + math.log(1 + math.exp(-3)), math.log(1 + math.exp(-0.5))]
    assert scores.loss == pytest.approx(sum(losses) / 4)


def test_calibration_error_equals_a_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 10, generator=generator) * 2
    labels = torch.randint(0, 10, (500,), generator=generator)
    probabilities = logits.double().softmax(1)
    error = 0.0
    for b in range(15):
        chosen = [i for i in range(500) if int(float(probabilities[i].max()) * 15) == b]
        if chosen:
            hits = sum(int(logits[i].argmax() == labels[i]) for i in chosen)
            confidence = sum(float(probabilities[i].max()) for i in chosen)
            error += abs(hits - confidence) / 500
    assert score_logits(logits, labels, split="x").calibration_error == pytest.approx(error)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(
    correct: int, total: int, low: float, high: float
) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


def test_all_right_stays_within_one() -> None:
    low, high = wilson_interval(20, 20)
    assert high == 1.0
    assert 0.8 < low < 1.0


class Brightness(nn.Module):
    """Logits that depend on the image alone: reads the first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        assert not torch.is_grad_enabled()
        first = x[:, 0, 0, 0]
        return torch.stack([first, 1 - first], dim=1)


def test_every_image_is_scored_whatever_the_batch_size() -> None:
    images = torch.randint(0, 256, (1003, 28, 28), dtype=torch.uint8)
    labels = (images[:, 0, 0] < 128).long()
    whole = compute_logits(Brightness(), images, batch_size=2000)
    parts = compute_logits(Brightness(), images, batch_size=128)
    assert torch.equal(whole, parts)
    scores = evaluate(Brightness(), images, labels, split="test")
    assert scores.num_images == 1003
    assert scores.accuracy == 1.0


def test_evaluation_leaves_the_model_in_its_mode() -> None:
    model = Brightness().train()
    compute_logits(model, torch.zeros(3, 28, 28, dtype=torch.uint8))
    assert model.training


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="expected"):
        score_logits(torch.zeros(3, 10), torch.zeros(2, dtype=torch.int64), split="test")
    with pytest.raises(ValueError, match="at least 1"):
        score_logits(torch.zeros(0, 10), torch.zeros(0, dtype=torch.int64), split="test")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 10, generator=generator)
    chances = (logits / temperature).softmax(1)
    labels = torch.multinomial(chances, 1, generator=generator)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)
