"""The notebook's cells, with its definitions replaced by our imports."""

import pytest
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lenet import load, notebook
from lenet.data.digits import to_input
from lenet.notebook import LeNet5, get_accuracy, train, training_loop, validate


@pytest.fixture(autouse=True)
def no_display() -> None:
    plt.switch_backend("agg")


@pytest.fixture
def loaders(tiny_mnist: None) -> list[DataLoader[tuple[torch.Tensor, ...]]]:
    """Training and validation images as the notebook has them: 32x32, in [0, 1]."""
    found = []
    for split in ("train", "test"):
        digits = load("mnist", split)
        x = F.interpolate(to_input(digits.images), (32, 32), mode="bilinear")
        found.append(DataLoader(TensorDataset(x, digits.labels), batch_size=25))
    return found


def test_the_notebooks_cells_run(
    loaders: list[DataLoader[tuple[torch.Tensor, ...]]], capsys: pytest.CaptureFixture[str]
) -> None:
    train_loader, valid_loader = loaders
    model = LeNet5(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    criterion = nn.CrossEntropyLoss()
    trained, _, losses = training_loop(
        model, criterion, optimizer, train_loader, valid_loader, 2, "cpu"
    )
    assert [len(values) for values in losses] == [2, 2]
    assert capsys.readouterr().out.count(" --- Epoch: ") == 2
    assert plt.gcf().axes[0].get_title() == "Loss over epochs"
    plt.close("all")
    with torch.no_grad():
        _, probs = trained(next(iter(valid_loader))[0][:1])
    assert float(probs.sum()) == pytest.approx(1)


def test_train_and_validate_mean_what_they_do_in_the_notebook(
    loaders: list[DataLoader[tuple[torch.Tensor, ...]]],
) -> None:
    loader = loaders[0]
    torch.manual_seed(0)
    model, criterion = LeNet5(10), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    _, valid_loss = validate(loader, model, criterion, "cpu")
    _, _, train_loss = train(loader, model, criterion, optimizer, "cpu")
    with torch.no_grad():
        expected = sum(float(criterion(model(x)[0], y)) * len(y) for x, y in loader) / 60
        hits = sum(int((model(x)[1].argmax(1) == y).sum()) for x, y in loader)
    assert train_loss == pytest.approx(expected)
    assert valid_loss == pytest.approx(expected)
    assert float(get_accuracy(model, loader, device="cpu")) == pytest.approx(hits / 60)


def test_star_import_brings_the_notebooks_names() -> None:
    assert set(notebook.__all__) == {
        "LeNet5", "get_accuracy", "plot_losses", "train", "training_loop", "validate",
    }  # fmt: skip
