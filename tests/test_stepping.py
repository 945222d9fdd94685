from dataclasses import replace

import pytest
import torch

from lenet.training.engines import build_optimizer
from lenet.training.recipe import RECIPES, Recipe
from lenet.training.reproducible import build_model
from lenet.training.stepping import Stepping

IMAGES = torch.zeros(70, 28, 28, dtype=torch.uint8)


def build(recipe: Recipe) -> Stepping:
    model = build_model(recipe, 0)
    optimizer = build_optimizer(recipe, list(model.parameters()), None)
    return Stepping(recipe, 0, model, optimizer, None, IMAGES)


def test_a_constant_order_is_that_of_the_first_epoch() -> None:
    assert [build(RECIPES["lecun1998"]).order_of(epoch) for epoch in range(3)] == [0, 0, 0]
    assert [build(RECIPES["default"]).order_of(epoch) for epoch in range(3)] == [0, 1, 2]


def test_sdlms_rate_is_fixed_within_a_pass() -> None:
    """Even where the schedule would step within it: a tenth of seven passes is not whole."""
    stepping = build(replace(RECIPES["lecun1998"], epochs=7))
    for epoch in range(7):
        assert len({stepping.lr_at(epoch, index) for index in range(70)}) == 1
    assert stepping.lr_at(0, 69) == 0.0005
    assert stepping.lr_at(1, 0) == pytest.approx(0.0002)


def test_other_rates_follow_their_schedule() -> None:
    recipe = replace(RECIPES["default"], batch_size=7, epochs=2, warmup=0.1)
    rates = [build(recipe).lr_at(epoch, index) for epoch in range(2) for index in range(10)]
    assert rates[:2] == pytest.approx([0.001, 0.002])
    assert rates[2:] == pytest.approx([0.002 * (1 - k / 18) for k in range(18)])


def test_figures_are_of_plain_cross_entropy() -> None:
    logits, labels = torch.randn(5, 10), torch.arange(5)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    for name in ("default", "lecun1998"):
        measure = build(RECIPES[name]).measure
        assert measure is not None
        torch.testing.assert_close(measure(logits, labels), expected)
    assert build(RECIPES["report"]).measure is None


def test_torch_learns_a_pattern_a_call() -> None:
    stepping = build(RECIPES["lecun1998"])
    assert stepping.learn is None
    assert stepping.images_a_batch == 1
