"""The notebook's functions, for code that brings a model, an optimizer and loaders of its own.

Source: github.com/erykml/medium_articles, `Computer Vision/lenet5_pytorch.ipynb`.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.training.learners import Tally, TorchLearner, forward, require_finite, tally_logits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Loader = Iterable[tuple[Tensor, Tensor]]


def training_loop(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    train_loader: Loader,
    valid_loader: Loader | None,
    epochs: int,
    device: torch.device | str,
    print_every: int = 1,
) -> tuple[nn.Module, Optimizer, tuple[list[float], list[float]]]:
    """Train a model; name, arguments and result are those of the notebook behind the report.

    The training loss is a running one: each batch is scored before the step it causes. Validation
    is one pass for both figures.

    Args:
        model: Takes a batch of images, returns logits, or a tuple whose first item is the logits.
        criterion: Mean loss of (logits, labels), such as `nn.CrossEntropyLoss()`.
        optimizer: Steps once a batch.
        train_loader: Any iterable of (images, labels), such as a `DataLoader`.
        valid_loader: The same, scored after each epoch; None to score nothing.
        epochs: How many.
        device: Where the model is; batches are moved there.
        print_every: Print a line every that many epochs; 0 prints nothing.

    Returns:
        (model, optimizer, (train_losses, valid_losses)).

    Raises:
        DivergenceError: The training loss is no longer finite.
        ValueError: The training loader yields nothing.
    """
    learner = TorchLearner(model, criterion, optimizer)
    train_losses: list[float] = []
    valid_losses: list[float] = []
    for epoch in range(epochs):
        model.train()
        tally = Tally()
        for images, labels in train_loader:
            tally += learner.step(images.to(device), labels.to(device))
        if not tally.num_images:
            raise ValueError("`train_loader` yields no batches")
        require_finite(tally, epoch)
        train_losses.append(tally.loss)
        valid = None
        if valid_loader is not None:
            valid = validate(model, criterion, valid_loader, device)
            valid_losses.append(valid.loss)
        if print_every and epoch % print_every == print_every - 1:
            print(epoch_line(epoch, tally, valid))
    return model, optimizer, (train_losses, valid_losses)


def epoch_line(epoch: int, train: Tally, valid: Tally | None) -> str:
    """Return the line that the notebook's loop prints after an epoch, counted from 0."""
    parts = [f"Epoch: {epoch}", f"Train loss: {train.loss:.4f}"]
    parts += [] if valid is None else [f"Valid loss: {valid.loss:.4f}"]
    parts += [f"Train accuracy: {100 * train.accuracy:.2f}"]
    parts += [] if valid is None else [f"Valid accuracy: {100 * valid.accuracy:.2f}"]
    now = datetime.now().time().replace(microsecond=0)
    return f"{now} --- " + "\t".join(parts)


@torch.no_grad()
def validate(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    loader: Loader,
    device: torch.device | str,
) -> Tally:
    """Return loss and accuracy over a loader, without training."""
    model.eval()
    tally = Tally()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = forward(model, images)
        tally += tally_logits(logits, labels, criterion(logits, labels))
    return tally


def get_accuracy(model: nn.Module, data_loader: Loader, device: torch.device | str) -> Tensor:
    """Return the share of images whose largest logit is the label's.

    Args:
        model: Takes a batch of images, returns logits, or a tuple (logits, probabilities).
        data_loader: Any iterable of (images, labels).
        device: Where the model is; batches are moved there.

    Returns:
        () float32 in 0..1, a tensor as in the notebook.
    """

    def no_loss(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.new_zeros(())

    return torch.tensor(validate(model, no_loss, data_loader, device).accuracy)


def plot_losses(train_losses: Sequence[float], valid_losses: Sequence[float]) -> "Figure":
    """Plot training and validation losses as the notebook does; a notebook shows the figure.

    Args:
        train_losses: One for each epoch.
        valid_losses: One for each epoch, or none.
    """
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    axes.plot(range(len(train_losses)), train_losses, color="blue", label="Training loss")
    if len(valid_losses):
        axes.plot(range(len(valid_losses)), valid_losses, color="red", label="Validation loss")
    axes.set(title="Loss over epochs", xlabel="Epoch", ylabel="Loss")
    axes.legend()
    return figure
