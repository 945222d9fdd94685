from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lenet.data.digits import load
from lenet.models import LeNet5
from lenet.models.files import load_model
from lenet.results.scores import evaluate
from lenet.schema import EpochScores
from lenet.training.loop import Watcher, train
from lenet.training.optimization import WeightAverage
from lenet.training.recipe import RECIPES
from lenet.training.run import create_run, open_run

AVERAGED = replace(RECIPES["fast"], ema=0.95, epochs=4, batch_size=16)


def test_the_average_is_that_of_a_naive_loop() -> None:
    torch.manual_seed(0)
    model = LeNet5()
    *_, bias = model.parameters()
    expected = bias.detach().double().tolist()
    average = WeightAverage(model, 0.9)
    for update in range(1, 200):
        with torch.no_grad():
            bias.add_(torch.randn(10))
        decay = min(0.9, (1 + update) / (10 + update))
        values = bias.detach().tolist()
        expected = [decay * e + (1 - decay) * v for e, v in zip(expected, values, strict=True)]
        average.update()
    *_, found = average.model.parameters()
    torch.testing.assert_close(
        found.double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-4
    )
    # What did not change is its own average, and a model of its own.
    torch.testing.assert_close(next(average.model.parameters()), next(model.parameters()))
    assert next(average.model.parameters()).data_ptr() != next(model.parameters()).data_ptr()


def test_a_restored_average_goes_on_where_it_was() -> None:
    torch.manual_seed(0)
    model = LeNet5()
    average, restored = WeightAverage(model, 0.9), WeightAverage(LeNet5(), 0.9)
    for update in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9)
        average.update()
        if update == 9:
            restored = WeightAverage(model, 0.9)
            restored.load_state_dict(average.state_dict())
        elif update > 9:
            restored.update()
    for ours, theirs in zip(restored.model.parameters(), average.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class _StopAfter(Watcher):
    """Stops a run when so many epochs of it are on the disk."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs

    def epoch(self, scores: EpochScores) -> None:
        if scores.epoch == self._num_epochs:
            raise KeyboardInterrupt


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_an_averaged_run_that_stops_ends_like_one_that_does_not(
    engine: str, tiny_mnist: None, tmp_path: Path
) -> None:
    whole, stopped = (create_run(tmp_path / name, "fast", AVERAGED, 0) for name in ("a", "b"))
    train(whole, engine=engine)
    for num_epochs in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train(open_run(stopped.path), engine=engine, watcher=_StopAfter(num_epochs))
    train(open_run(stopped.path), engine=engine)
    model = "model.safetensors"
    assert (whole.path / model).read_bytes() == (stopped.path / model).read_bytes()


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_the_average_is_what_is_scored_and_kept(
    engine: str, tiny_mnist: None, tmp_path: Path
) -> None:
    run = create_run(tmp_path / "run", "fast", replace(AVERAGED, num_val=20), 0)
    record = train(run, engine=engine)
    model, _ = load_model(run.path)
    state = torch.load(run.path / "resume.pt", weights_only=True)
    weight = model.state_dict()["classifier.2.weight"]
    assert torch.equal(weight, state["average"]["model"]["classifier.2.weight"])
    assert not torch.equal(weight, state["model"]["classifier.2.weight"])
    test = load("mnist", "test")
    scores = evaluate(model, test.images, test.labels, split="test")
    assert scores.loss == pytest.approx(record.test_loss, rel=1e-5)
    assert record.epochs[-1].val_loss == pytest.approx(record.val_loss, rel=1e-5)
