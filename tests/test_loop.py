import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from lenet.errors import DivergenceError
from lenet.models import LeNet5
from lenet.training.learners import make_learner
from lenet.training.optimization import LOSSES, OPTIMIZERS, SCHEDULES, lr_at
from lenet.training.recipe import RECIPES, Recipe
from lenet.training.training_loop import get_accuracy, training_loop

GOLDEN_LOSSES = [
    2.30556, 2.28857, 2.27045, 2.24976, 2.22546, 2.19641, 2.16127, 2.11856, 2.06691, 2.00518,
    1.93274, 1.84964, 1.75682, 1.65605, 1.54973, 1.44070, 1.33215, 1.22725, 1.12861, 1.03767,
]  # fmt: skip


def make_shapes(num_images: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images that can be learned: class k is a bright bar at row 2 + 2k, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % 10
    images = torch.rand(num_images, 1, 28, 28, generator=generator) * 0.3
    for i, label in enumerate(labels.tolist()):
        images[i, 0, 2 + 2 * label : 4 + 2 * label] += 0.7
    return images, labels


def make_loader(num_images: int = 64, batch_size: int = 32) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*make_shapes(num_images)), batch_size=batch_size)


def make_model(seed: int = 0) -> LeNet5:
    torch.manual_seed(seed)
    return LeNet5()


def test_loop_equals_the_plainest_loop() -> None:
    images, labels = make_shapes(96)
    ours, theirs = make_model(), make_model()
    criterion = nn.CrossEntropyLoss()
    loader = [(images[i : i + 32], labels[i : i + 32]) for i in range(0, 96, 32)]
    optimizer = torch.optim.Adam(ours.parameters(), lr=1e-3)
    _, _, (train_losses, valid_losses) = training_loop(
        ours, criterion, optimizer, loader, loader, 2, "cpu", print_every=0
    )
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    for epoch in range(2):
        losses = []
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(theirs(x), y)
            losses.append(float(loss.detach()))
            loss.backward()
            optimizer.step()
        assert train_losses[epoch] == pytest.approx(sum(losses) / 3)
        with torch.no_grad():
            assert valid_losses[epoch] == pytest.approx(float(criterion(theirs(images), labels)))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_first_twenty_losses_are_those_of_the_golden_run() -> None:
    model, (images, labels) = make_model(), make_shapes(32)
    optimizer = OPTIMIZERS["adam"](list(model.parameters()), lr=1e-3, weight_decay=0.0)
    _, _, (losses, _) = training_loop(
        model, nn.CrossEntropyLoss(), optimizer, [(images, labels)], None, 20, "cpu", 0
    )
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=1e-4)


def test_it_learns_and_get_accuracy_says_so() -> None:
    model, loader = make_model(), make_loader(320)
    assert float(get_accuracy(model, loader, "cpu")) < 0.3
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    training_loop(model, nn.CrossEntropyLoss(), optimizer, loader, None, 3, "cpu", print_every=0)
    assert float(get_accuracy(model, loader, "cpu")) == 1.0


class Pair(nn.Module):
    """A model like the notebook's, which returns (logits, probabilities)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = LeNet5()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.network(x)
        return logits, logits.softmax(1)


def test_a_model_that_returns_probabilities_too_is_trained_alike() -> None:
    plain = make_model()
    torch.manual_seed(0)
    pair = Pair()
    for model in (plain, pair):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        training_loop(model, nn.CrossEntropyLoss(), optimizer, make_loader(), None, 1, "cpu", 0)
    for a, b in zip(plain.parameters(), pair.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert get_accuracy(plain, make_loader(), "cpu") == get_accuracy(pair, make_loader(), "cpu")


def test_print_every_prints_the_notebooks_line(capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters())
    loader = make_loader()
    training_loop(model, nn.CrossEntropyLoss(), optimizer, loader, loader, 4, "cpu", print_every=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("Epoch: ")[1].split("\t")[0] for line in lines] == ["1", "3"]
    for name in ("Train loss: ", "Valid loss: ", "Train accuracy: ", "Valid accuracy: "):
        assert all(f"\t{name}" in line for line in lines)


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=float("inf"))
    with pytest.raises(DivergenceError, match="epoch 1 is nan; try a smaller learning rate"):
        training_loop(model, nn.CrossEntropyLoss(), optimizer, make_loader(), None, 1, "cpu", 0)


def test_an_empty_loader_is_an_error() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="yields no batches"):
        training_loop(model, nn.CrossEntropyLoss(), optimizer, [], None, 1, "cpu", 0)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"sdlm"}))  # not torch's: test_sdlm.py
def test_optimizers_equal_torchs_unfused_ones(name: str) -> None:
    theirs = {
        "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1, momentum=0.9),
    }[name]
    torch.manual_seed(0)
    start = torch.randn(20)
    results = []

    def ours(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return OPTIMIZERS[name](parameters, lr=0.01, weight_decay=0.1)

    for build in (ours, theirs):
        parameter = nn.Parameter(start.clone())
        optimizer = build([parameter])
        for step in range(10):
            parameter.grad = torch.sin(parameter.detach() + step)
            optimizer.step()
        results.append(parameter.detach())
    torch.testing.assert_close(results[0], results[1])


def test_cross_entropy_with_smoothing_equals_the_definition() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 10), torch.arange(8)
    log_p = logits.log_softmax(1)
    expected = -(0.9 * log_p[torch.arange(8), labels] + 0.1 * log_p.mean(1)).mean()
    assert float(
        LOSSES["cross_entropy"](Recipe(label_smoothing=0.1))(logits, labels)
    ) == pytest.approx(float(expected))
    assert math.isfinite(float(expected))


def test_short_last_batch_weighs_by_its_images() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    images, labels = make_shapes(50)
    _, _, (losses, _) = training_loop(
        model, nn.CrossEntropyLoss(), optimizer, make_loader(50), None, 1, "cpu", 0
    )
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(images), labels)
    assert losses == pytest.approx([float(expected)])


@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {"lecun1998"}))  # test_sdlm.py
def test_schedules_rise_to_the_peak_and_stay_positive(name: str) -> None:
    recipe = Recipe(lr=1.0, schedule=name, warmup=0.1, epochs=10)  # type: ignore[arg-type]  # a key
    rates = [lr_at(recipe, step, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_schedules_equal_torchs_own() -> None:
    theirs: dict[str, Callable[[torch.optim.Optimizer], LRScheduler]] = {
        "linear": lambda o: LinearLR(o, 1.0, 1e-9, total_iters=50),
        "cosine": lambda o: CosineAnnealingLR(o, T_max=50),
    }
    for name, build in theirs.items():
        recipe = Recipe(lr=1.0, schedule=name, epochs=5)  # type: ignore[arg-type]  # a key
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = build(optimizer)
        for step in range(50):
            expected = optimizer.param_groups[0]["lr"]
            assert lr_at(recipe, step, 10) == pytest.approx(expected, abs=1e-6)
            optimizer.step()
            scheduler.step()


def test_the_papers_rate_is_fixed_within_a_pass() -> None:
    """Even where the schedule would step within it: a tenth of seven passes is not whole."""
    recipe = replace(RECIPES["lecun1998"], epochs=7)
    for epoch in range(7):
        assert len({lr_at(recipe, epoch * 70 + index, 70) for index in range(70)}) == 1
    assert lr_at(recipe, 69, 70) == 0.0005
    assert lr_at(recipe, 70, 70) == pytest.approx(0.0002)


def test_a_learner_sets_the_rate_and_reports_plain_cross_entropy() -> None:
    images, labels = make_shapes(32)
    recipe = replace(RECIPES["default"], num_val=0, label_smoothing=0.5, optimizer="sgd")
    learner = make_learner(recipe, make_model(), engine="torch")
    twin = make_model()
    with torch.no_grad():
        expected = float(nn.functional.cross_entropy(twin(images), labels))
    tally = learner.step(images, labels, 0.25)
    assert learner.optimizer.param_groups[0]["lr"] == 0.25
    assert tally.loss == pytest.approx(expected)
    # What is learned is the smoothed loss.
    nn.CrossEntropyLoss(label_smoothing=0.5)(twin(images), labels).backward()
    with torch.no_grad():
        for ours, theirs in zip(learner.model.parameters(), twin.parameters(), strict=True):
            assert theirs.grad is not None
            torch.testing.assert_close(ours, theirs - 0.25 * theirs.grad)
