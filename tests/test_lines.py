"""Lines of writing to train on, and learning from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from safetensors.torch import load_file

import lenet.training.lines as lines_module
from lenet.data.digits import Digits
from lenet.models import LeNet5
from lenet.reading.number import log_probabilities, string_scores
from lenet.training.learners import TorchLearner
from lenet.training.line_learner import WEIGHT, LineLearner, fold_garbage, line_loss
from lenet.training.lines import LineMaker, Lines
from lenet.training.loop import Watcher, train
from lenet.training.non_digits import add_non_digits, draw_non_digits
from lenet.training.recipe import RECIPES
from lenet.training.run import create_run, open_run


@pytest.fixture
def digits() -> Digits:
    """Sevens and ones of straight strokes."""
    images = []
    for label in (7, 1) * 10:
        image = Image.new("L", (28, 28))
        pen = ImageDraw.Draw(image)
        pen.line([(16, 5), (12, 23)], fill=255, width=3)
        if label == 7:
            pen.line([(7, 5), (17, 5)], fill=255, width=3)
        images.append(np.asarray(image))
    return Digits(
        images=torch.from_numpy(np.stack(images)),
        labels=torch.tensor([7, 1] * 10),
        name="x",
        split="train",
        classes=tuple("0123456789"),
    )


@pytest.fixture
def maker(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> LineMaker:
    monkeypatch.setattr(lines_module, "NUM_SYMBOLS", 20)
    return LineMaker(digits, seed=3, engine="torch", device=torch.device("cpu"))


def test_lines_are_the_same_for_equal_seed_and_epoch(maker: LineMaker) -> None:
    drawn: dict[int, list[Lines]] = {}
    for epoch in (0, 1, 0):
        maker.begin_epoch(epoch)
        lines = [maker.draw(30) for _ in range(3)]
        for found, before in zip(lines, drawn.get(epoch, lines), strict=True):
            assert torch.equal(found.fields, before.fields)
            assert torch.equal(found.labels, before.labels)
        drawn[epoch] = lines
    assert drawn[0][0].fields.shape != drawn[1][0].fields.shape


def test_lines_hold_about_as_many_digits_as_asked_for(maker: LineMaker) -> None:
    for _ in range(20):
        lines = maker.draw(60)
        num_lines = len(lines.lengths)
        assert lines.fields.shape[:3] == (num_lines, 1, 32)
        assert lines.fields.amin() >= 0
        assert lines.fields.amax() <= 1
        assert int(lines.lengths.sum()) == len(lines.labels)
        assert set(lines.labels.tolist()) <= {1, 7}
        assert num_lines * int(lines.lengths.max()) <= 60


def test_digits_stand_in_their_order_at_the_distance_asked_for(
    maker: LineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop that puts one cell after the other."""
    cells = torch.zeros(1, 3, 32, 40)
    for place, (first, last) in enumerate(((18, 22), (19, 20), (7, 32))):
        cells[0, place, 8:20, first : last + 1] = 0.5 + 0.1 * place
    monkeypatch.setattr(lines_module, "STYLES", ((2, 2),))
    monkeypatch.setattr(maker, "_chance", lambda share, *shape: torch.zeros(shape).bool())
    monkeypatch.setattr(maker, "_often", lambda share, values, rest: torch.as_tensor(rest))
    edges = lines_module._edges(cells)
    left = maker._space(*edges)
    start = int(left[0, 0]) + 18
    expected = torch.zeros(32, 200)
    x = start
    for place, width in enumerate((5, 2, 26)):
        expected[8:20, x : x + width] = 0.5 + 0.1 * place
        x += width + 2
    found = lines_module._compose(cells, left, edges[1])[0]
    assert found.shape[1] >= x + 14
    torch.testing.assert_close(found, expected[:, : found.shape[1]])


def test_a_steps_gradient_is_that_of_both_losses(maker: LineMaker, digits: Digits) -> None:
    torch.manual_seed(0)
    model = LeNet5(11, activation="relu", pooling="max")
    learner = TorchLearner(model, torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters()))
    maker.begin_epoch(0)
    lines = maker.draw(20)
    maker.begin_epoch(0)
    x = digits.images[:4].unsqueeze(1) / 255
    tally = LineLearner(learner, maker, 20).gradients(digits.images[:4], digits.labels[:4])
    found = [p.grad for p in model.parameters()]
    loss = F.cross_entropy(model(x), digits.labels[:4])
    total = loss + WEIGHT * line_loss(model, lines)
    expected = torch.autograd.grad(total, list(model.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert tally.loss == pytest.approx(float(loss.detach()), rel=1e-5)


def test_the_loss_of_lines_is_the_negative_log_probability_a_digit() -> None:
    """Against each line alone, by the reader's own CTC."""
    torch.manual_seed(0)
    model = LeNet5(11, activation="relu", pooling="max").eval()
    fields = torch.rand(2, 1, 32, 70)
    lines = Lines(fields=fields, labels=torch.tensor([1, 2, 2, 5]), lengths=torch.tensor([3, 1]))
    with torch.no_grad():
        logits = fold_garbage(model).eval().sweep(fields).double().numpy()
        loss = float(line_loss(model, lines))
    texts = ((1, 2, 2), (5,))
    scores = [string_scores(log_probabilities(logits[i]), [texts[i]])[0] for i in range(2)]
    assert loss == pytest.approx(-sum(scores) / 4, rel=1e-4)


def test_non_digits_are_added_as_one_class_more(digits: Digits) -> None:
    added = add_non_digits(digits, 60)
    assert added.classes[-1] == "garbage"
    assert torch.equal(added.images[: len(digits)], digits.images)
    assert added.labels[len(digits) :].tolist() == [10] * 60
    assert torch.equal(add_non_digits(digits, 60).images, added.images)


def test_non_digits_fill_their_box(digits: Digits) -> None:
    ink = draw_non_digits(200) > 100
    sides = torch.stack([ink.any(1).sum(1), ink.any(2).sum(1)]).amax(0)
    assert 19 <= float(sides.float().median()) <= int(sides.max()) <= 24


def test_folding_the_garbage_away_changes_no_probability() -> None:
    torch.manual_seed(0)
    model = LeNet5(11, activation="relu", pooling="max", background=-0.4, ink=2.8)
    folded = fold_garbage(model)
    assert sum(p.numel() for p in folded.parameters()) == 61_706
    x = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        expected = model(x).softmax(1)
        logits = torch.cat([folded(x), torch.zeros(5, 1)], dim=1)
    torch.testing.assert_close(logits.softmax(1), expected)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    tiny_mnist: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "NUM_SYMBOLS", 20)
    recipe = replace(RECIPES["robust"], epochs=2, num_val=10, non_digits=20, lines=8)

    class Stopper(Watcher):
        def epoch(self, scores: object) -> None:
            raise KeyboardInterrupt

    train(create_run(tmp_path / "whole", "robust", recipe, 0))
    with pytest.raises(KeyboardInterrupt):
        train(create_run(tmp_path / "stopped", "robust", recipe, 0), watcher=Stopper())
    train(open_run(tmp_path / "stopped"))
    whole, resumed = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
