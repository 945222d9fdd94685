"""The notebook behind the report, under its own names.

`from lenet.notebook import *` stands in for the notebook's imports of torchvision and for the
cells that define functions and model; every other cell runs as it is. The names and what they
mean are those of github.com/erykml/medium_articles, `Computer Vision/lenet5_pytorch.ipynb`. Its
way of feeding data, one picture at a time, is kept, being what the benchmarks compare with; the
rest of the package works on tensors that hold the whole data set (`lenet.load`).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

import lenet.models.lenet5
import lenet.training.loop
from lenet.data.digits import load
from lenet.plots import plot_losses
from lenet.training.loop import get_accuracy

__all__ = [
    "LeNet5",
    "datasets",
    "get_accuracy",
    "plot_losses",
    "train",
    "training_loop",
    "transforms",
    "validate",
]


class LeNet5(nn.Module):
    """The notebook's network: 32x32 images in [0, 1] to (logits, probabilities)."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        network = lenet.models.lenet5.LeNet5(n_classes)
        self.feature_extractor = network.feature_extractor
        self.classifier = network.classifier

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (logits, probabilities), each (B, n_classes).

        Args:
            x: (B, 1, 32, 32) float in [0, 1], 1 = ink.
        """
        x = self.feature_extractor(x)  # (B, 120, 1, 1)
        logits = self.classifier(torch.flatten(x, 1))  # (B, n_classes)
        return logits, F.softmax(logits, dim=1)


class Compose:
    """Apply transforms one after the other, as torchvision's does."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, picture: Any) -> Any:
        """Return the picture transformed."""
        for transform in self.transforms:
            picture = transform(picture)
        return picture


class Resize:
    """Stretch a picture to (height, width), bilinearly, by Pillow as torchvision does."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return the picture stretched."""
        height, width = self.size
        return picture.resize((width, height), Image.Resampling.BILINEAR)


class ToTensor:
    """Convert a grey picture to a (1, H, W) float tensor in [0, 1]."""

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return the tensor."""
        return torch.from_numpy(np.array(picture)).unsqueeze(0).float().div(255)


class MNIST(Dataset[tuple[Any, int]]):
    """MNIST one picture at a time, as torchvision's class of that name.

    The files are looked for in `root`, then where all of lenet looks; see `lenet.data.fetch`.
    """

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        split: Literal["train", "test"] = "train" if train else "test"
        folder = Path(root)
        digits = load("mnist", split, data_dir=folder if folder.is_dir() else None)
        self.data, self.targets = digits.images, digits.labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture: Any = Image.fromarray(self.data[index].numpy())
        if self.transform is not None:
            picture = self.transform(picture)
        return picture, int(self.targets[index])


datasets = SimpleNamespace(MNIST=MNIST)
transforms = SimpleNamespace(Compose=Compose, Resize=Resize, ToTensor=ToTensor)

Loader = Iterable[tuple[Tensor, Tensor]]
Criterion = Callable[[Tensor, Tensor], Tensor]


def train(
    train_loader: Loader,
    model: nn.Module,
    criterion: Criterion,
    optimizer: Optimizer,
    device: torch.device | str,
) -> tuple[nn.Module, Optimizer, float]:
    """Train one epoch; return (model, optimizer, running mean of the loss)."""
    _, _, (train_losses, _) = lenet.training.loop.training_loop(
        model, criterion, optimizer, train_loader, None, 1, device, print_every=0
    )
    return model, optimizer, train_losses[0]


def validate(
    valid_loader: Loader, model: nn.Module, criterion: Criterion, device: torch.device | str
) -> tuple[nn.Module, float]:
    """Score without learning; return (model, mean loss)."""
    return model, lenet.training.loop.score(model, criterion, valid_loader, device).loss


def training_loop(
    model: nn.Module,
    criterion: Criterion,
    optimizer: Optimizer,
    train_loader: Loader,
    valid_loader: Loader,
    epochs: int,
    device: torch.device | str,
    print_every: int = 1,
) -> tuple[nn.Module, Optimizer, tuple[list[float], list[float]]]:
    """Train with `lenet.training_loop`, then plot the losses as the notebook's loop does."""
    result = lenet.training.loop.training_loop(
        model, criterion, optimizer, train_loader, valid_loader, epochs, device, print_every
    )
    plot_losses(*result[2])
    return result
