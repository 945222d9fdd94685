"""The notebook's cells, with its definitions replaced by our imports."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from lenet import notebook
from lenet.notebook import (
    LeNet5,
    datasets,
    get_accuracy,
    train,
    training_loop,
    transforms,
    validate,
)


@pytest.fixture(autouse=True)
def no_display() -> None:
    plt.switch_backend("agg")


# The notebook hands tensors to matplotlib, which torch answers in a way that numpy 2 dislikes.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_notebooks_cells_run(
    tiny_mnist: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Setup and parameters.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch_size, num_epochs = 32, 2
    # Data.
    steps = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    root = str(tmp_path / "mnist_data")
    train_dataset = datasets.MNIST(root=root, train=True, transform=steps, download=True)
    valid_dataset = datasets.MNIST(root=root, train=False, transform=steps)
    train_loader = DataLoader(dataset=train_dataset, batch_size=batch_size, shuffle=True)
    valid_loader = DataLoader(dataset=valid_dataset, batch_size=batch_size, shuffle=False)
    # The preview of the images.
    figure = plt.figure()
    for index in range(1, 11):
        plt.subplot(1, 10, index)
        plt.imshow(train_dataset.data[index], cmap="gray_r")
    figure.suptitle("MNIST Dataset - preview")
    # Model, optimizer, criterion, training.
    torch.manual_seed(42)
    model = LeNet5(10).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    criterion = nn.CrossEntropyLoss()
    trained, _, losses = training_loop(
        model, criterion, optimizer, train_loader, valid_loader, num_epochs, device
    )
    assert [len(values) for values in losses] == [2, 2]
    assert capsys.readouterr().out.count(" --- Epoch: ") == 2
    assert plt.gcf().axes[0].get_title() == "Loss over epochs"
    # The grid of predictions.
    for index in range(1, 6):
        with torch.no_grad():
            trained.eval()
            _, probs = trained(valid_dataset[index][0].unsqueeze(0))
        title = f"{torch.argmax(probs)} ({torch.max(probs * 100):.0f}%)"
        assert title.endswith("%)")
        assert float(probs.sum()) == pytest.approx(1)
    plt.close("all")


def test_train_and_validate_mean_what_they_do_in_the_notebook(tiny_mnist: None) -> None:
    dataset = datasets.MNIST(root=".", train=True, transform=transforms.ToTensor())
    field = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    dataset.transform = field
    loader = DataLoader(dataset, batch_size=25)
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


def test_transforms_are_pillows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    stretched = np.array(picture.resize((32, 32), Image.Resampling.BILINEAR))
    both = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])(picture)
    assert both.shape == (1, 32, 32)
    assert torch.equal(both[0], torch.from_numpy(stretched).float() / 255)


def test_star_import_brings_the_notebooks_names() -> None:
    assert set(notebook.__all__) == {
        "LeNet5", "datasets", "get_accuracy", "plot_losses", "train", "training_loop",
        "transforms", "validate",
    }  # fmt: skip
