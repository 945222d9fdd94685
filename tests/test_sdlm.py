from dataclasses import replace

import pytest
import torch
from torch import nn

from lenet.data.digits import order, to_input
from lenet.models import build_network
from lenet.models.lenet5_1998 import LeNet5_1998
from lenet.training.curvature import estimate_curvature
from lenet.training.learners import make_learner
from lenet.training.optimization import garbage_penalty, lr_at
from lenet.training.recipe import RECIPES
from lenet.training.sdlm import MAP, MSE, StochasticDiagonalLM


def test_a_step_is_the_papers() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))]
    h = [torch.rand(3, 2) * 5, torch.zeros(4)]
    optimizer = StochasticDiagonalLM(parameters, lr=0.0005)
    optimizer.set_curvature(h)
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer.step()
    for p, old, h_kk, rate in zip(parameters, before, h, optimizer.rates(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(rate, 0.0005 / (0.02 + h_kk))
        torch.testing.assert_close(p.detach(), old - rate * p.grad)
    # The ceiling eta / mu where nothing curves.
    assert float(optimizer.rates()[1].max()) == pytest.approx(0.025)


def test_curvature_is_kept_in_the_state() -> None:
    model = LeNet5_1998()
    optimizer = StochasticDiagonalLM(model.parameters(), lr=0.0005)
    optimizer.set_curvature(estimate_curvature(model, torch.rand(2, 1, 28, 28), garbage=None))
    other = StochasticDiagonalLM(model.parameters(), lr=1.0)
    other.load_state_dict(optimizer.state_dict())
    for a, b in zip(optimizer.rates(), other.rates(), strict=True):
        assert torch.equal(a, b)


def test_curvature_is_of_500_patterns_drawn_for_the_pass() -> None:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (600, 28, 28), dtype=torch.uint8)
    recipe = replace(RECIPES["lecun1998"], loss="map", map_j=3.0)
    model = build_network(recipe, 1)
    assert isinstance(model, LeNet5_1998)
    estimates = [
        estimate_curvature(model, to_input(images[order(600, 5, epoch)[:500]]), garbage=3.0)
        for epoch in range(3)
    ]
    for curvature in ("fresh", "running"):
        wanted = replace(recipe, curvature=curvature)
        learner = make_learner(wanted, model, engine="torch", seed=5)
        for epoch in range(3):
            learner.begin_epoch(epoch, images)
        for parameter, *h_kk in zip(model.parameters(), *estimates, strict=True):
            expected = torch.stack(h_kk).mean(0) if curvature == "running" else h_kk[-1]
            torch.testing.assert_close(learner.optimizer.state[parameter]["h_kk"], expected)


def test_eta_falls_between_passes_as_in_the_paper() -> None:
    eta = [
        lr_at(RECIPES["lecun1998"], epoch * 60_000 + step, 60_000)
        for epoch in range(20)
        for step in (0, 59_999)
    ]
    expected = [0.0005] * 2 + [0.0002] * 3 + [0.0001] * 3 + [0.00005] * 4 + [0.00001] * 8
    assert eta[::2] == pytest.approx(expected)
    assert eta[1::2] == pytest.approx(expected)


def test_the_mse_is_the_mean_penalty_of_the_true_class() -> None:
    logits = -torch.rand(4, 10) * 50
    labels = torch.tensor([3, 1, 4, 1])
    expected = -sum(float(logits[i, label]) for i, label in enumerate(labels)) / 4
    assert float(MSE()(logits, labels)) == pytest.approx(expected)


@pytest.mark.parametrize("j", [0.5, 10.0, float("inf")])
def test_map_is_equation_9(j: float) -> None:
    penalties = torch.rand(4, 10, dtype=torch.float64) * 20
    labels = torch.tensor([3, 1, 4, 1])
    garbage = torch.exp(torch.tensor(-j, dtype=torch.float64))
    expected = (
        penalties[torch.arange(4), labels] + torch.log(garbage + torch.exp(-penalties).sum(1))
    ).mean()
    torch.testing.assert_close(MAP(j)(-penalties, labels), expected)
    if j == float("inf"):
        cross_entropy = nn.CrossEntropyLoss()(-penalties, labels)
        torch.testing.assert_close(MAP(j)(-penalties, labels), cross_entropy)


def test_each_loss_names_its_garbage_class() -> None:
    recipe = RECIPES["lecun1998"]
    assert garbage_penalty(recipe) is None
    assert garbage_penalty(replace(recipe, loss="map", map_j=4.0)) == 4.0
    assert garbage_penalty(RECIPES["fast"]) == float("inf")


def test_recipes_build_the_papers_network() -> None:
    recipe = RECIPES["lecun1998"]
    model = build_network(recipe, 0)
    assert isinstance(model, LeNet5_1998)
    assert sum(p.numel() for p in model.parameters()) == 60_000
    again = build_network(replace(recipe, connections="dense"), 0)
    assert sum(p.numel() for p in again.parameters()) == 60_900
