"""The notebook behind the report, under its own names.

`from lenet.notebook import *` stands in for the notebook's cells that define functions and model.
The names and what they mean are those of github.com/erykml/medium_articles,
`Computer Vision/lenet5_pytorch.ipynb`. Its data sets and transforms are torchvision's own.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

import lenet.models.lenet5
import lenet.training.training_loop
from lenet.training.training_loop import get_accuracy, plot_losses

__all__ = [
    "LeNet5",
    "get_accuracy",
    "plot_losses",
    "train",
    "training_loop",
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
    _, _, (train_losses, _) = lenet.training.training_loop.training_loop(
        model, criterion, optimizer, train_loader, None, 1, device, print_every=0
    )
    return model, optimizer, train_losses[0]


def validate(
    valid_loader: Loader, model: nn.Module, criterion: Criterion, device: torch.device | str
) -> tuple[nn.Module, float]:
    """Score without learning; return (model, mean loss)."""
    return model, lenet.training.training_loop.validate(model, criterion, valid_loader, device).loss


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
    result = lenet.training.training_loop.training_loop(
        model, criterion, optimizer, train_loader, valid_loader, epochs, device, print_every
    )
    plot_losses(*result[2])
    return result
