"""The training loop: the one that the notebook's signature names and that every recipe uses."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.errors import DivergenceError
from lenet.results.scores import BatchScores

Batch = tuple[Tensor, Tensor]
Loader = Iterable[Batch] | Callable[[int], Iterable[Batch]]
"""Batches of (images, labels); or a function of the epoch (0 for the first) that returns them,
so that the order can be a function of the epoch and not of what was drawn before."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch of `training_loop` measured."""

    epoch: int
    """0 for the first, as in the loop."""
    train_loss: float
    """Mean over the epoch's batches, each scored before the step it causes."""
    train_accuracy: float
    """Likewise, 0..1."""
    valid_loss: float | None
    """Mean over the validation loader after the epoch; None without one."""
    valid_accuracy: float | None
    lr: float
    """Learning rate of the last step."""
    duration_s: float
    """Training and scoring."""
    train_s: float
    """Training alone."""
    num_images: int


class Tally:
    """Running loss and hits of a pass, kept on the device so that no step waits for the host."""

    def __init__(self) -> None:
        self._loss: Tensor | float = 0.0
        self._hits: Tensor | int = 0
        self.num_images = 0

    def add(self, loss: Tensor | float, num_correct: Tensor | int, num_images: int) -> None:
        """Count one batch; `loss` is its mean."""
        self._loss += loss * num_images
        self._hits += num_correct
        self.num_images += num_images

    def add_logits(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one batch by its logits."""
        hits = (logits.detach().argmax(1) == labels).sum()
        self.add(loss.detach(), hits, len(labels))

    @property
    def loss(self) -> float:
        """Mean loss so far; waits for the device."""
        return float(self._loss) / max(1, self.num_images)

    @property
    def accuracy(self) -> float:
        """Share of images right so far, 0..1; waits for the device."""
        return int(self._hits) / max(1, self.num_images)


def training_loop(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    train_loader: Loader,
    valid_loader: Loader | None,
    epochs: int,
    device: torch.device | str,
    print_every: int = 1,
    *,
    first_epoch: int = 0,
    lr_at: Callable[[int, int], float] | None = None,
    gradients: Callable[[Tensor, Tensor], BatchScores] | None = None,
    learn: Callable[[Tensor, Tensor], BatchScores] | None = None,
    predict: Callable[[Tensor], Tensor] | None = None,
    measure: Callable[[Tensor, Tensor], Tensor] | None = None,
    before_epoch: Callable[[int], None] | None = None,
    on_batch: Callable[[int, Tally], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> tuple[nn.Module, Optimizer, tuple[list[float], list[float]]]:
    """Train a model; name, arguments and result are those of the notebook behind the report.

    Training loss and accuracy are running ones (see `EpochResult`), so the training images are
    passed once an epoch; the notebook passes them twice. Validation is one pass for both figures.

    Args:
        model: Takes a batch of images, returns logits, or a tuple whose first item is the logits.
        criterion: Mean loss of (logits, labels), such as `nn.CrossEntropyLoss()`.
        optimizer: Steps once a batch.
        train_loader: Any iterable of (images, labels), a `DataLoader` included, or a function
            of the epoch that returns one.
        valid_loader: Likewise, scored after each epoch; None to score nothing.
        epochs: The epoch to stop before, counted from 0.
        device: Where the model is; batches are moved there.
        print_every: Print a line every that many epochs; 0 prints nothing.
        first_epoch: Where to begin, for a run that goes on.
        lr_at: Learning rate by epoch and batch in it, both from 0; None leaves the optimizer's.
        gradients: Writes the gradients of a batch (images, labels) into the parameters and says
            how the batch was scored, in place of `criterion` and autograd.
        learn: Does a batch's whole step, or one for each of its images, and says how they were
            scored before it, in place of `criterion`, autograd and the optimizer.
        predict: Logits of a batch of images, in place of the model, for validation.
        measure: The loss that is reported, of (logits, labels), where that is not `criterion`.
        before_epoch: Called with the epoch before its first batch.
        on_batch: Called after each step with the epoch and the tally so far.
        on_epoch: Called after each epoch.

    Returns:
        (model, optimizer, (train_losses, valid_losses)), losses of the epochs trained here.

    Raises:
        DivergenceError: The training loss is no longer finite.
        ValueError: The training loader yields nothing.
    """
    train_losses: list[float] = []
    valid_losses: list[float] = []
    for epoch in range(first_epoch, epochs):
        start = time.perf_counter()
        if before_epoch is not None:
            before_epoch(epoch)
        train, lr = _train_epoch(
            model,
            criterion,
            optimizer,
            train_loader,
            device,
            epoch,
            lr_at,
            gradients,
            learn,
            measure,
            on_batch,
        )
        train_loss, train_accuracy = train.loss, train.accuracy
        train_s = time.perf_counter() - start
        if not math.isfinite(train_loss):
            raise DivergenceError(
                f"the training loss of epoch {epoch + 1} is {train_loss}; "
                f"try a smaller learning rate (now {lr:g})"
            )
        valid = (
            None
            if valid_loader is None
            else score(model, measure or criterion, valid_loader, device, predict=predict)
        )
        result = EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            valid_loss=None if valid is None else valid.loss,
            valid_accuracy=None if valid is None else valid.accuracy,
            lr=lr,
            duration_s=time.perf_counter() - start,
            train_s=train_s,
            num_images=train.num_images,
        )
        train_losses.append(result.train_loss)
        if result.valid_loss is not None:
            valid_losses.append(result.valid_loss)
        if on_epoch is not None:
            on_epoch(result)
        if print_every and epoch % print_every == print_every - 1:
            print_epoch(result)
    return model, optimizer, (train_losses, valid_losses)


def print_epoch(result: EpochResult) -> None:
    """Print one epoch as the notebook's loop does."""
    now = datetime.now().time().replace(microsecond=0)
    valid = ""
    if result.valid_loss is not None and result.valid_accuracy is not None:
        valid = f"\tValid loss: {result.valid_loss:.4f}"
        valid_accuracy = f"\tValid accuracy: {100 * result.valid_accuracy:.2f}"
    else:
        valid_accuracy = ""
    print(
        f"{now} --- Epoch: {result.epoch}\tTrain loss: {result.train_loss:.4f}{valid}"
        f"\tTrain accuracy: {100 * result.train_accuracy:.2f}{valid_accuracy}"
    )


def _batches(loader: Loader, epoch: int) -> Iterable[Batch]:
    return loader(epoch) if callable(loader) else loader


def _logits(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    # The notebook's own model returns (logits, probabilities).
    return output[0] if isinstance(output, tuple) else output


def _train_epoch(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    loader: Loader,
    device: torch.device | str,
    epoch: int,
    lr_at: Callable[[int, int], float] | None,
    gradients: Callable[[Tensor, Tensor], BatchScores] | None,
    learn: Callable[[Tensor, Tensor], BatchScores] | None,
    measure: Callable[[Tensor, Tensor], Tensor] | None,
    on_batch: Callable[[int, Tally], None] | None,
) -> tuple[Tally, float]:
    model.train()
    tally = Tally()
    for index, (images, labels) in enumerate(_batches(loader, epoch)):
        if lr_at is not None:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(epoch, index)
        images, labels = images.to(device), labels.to(device)
        compiled = learn or gradients
        if compiled is not None:
            scores = compiled(images, labels)
            num_images = len(labels) if scores.num_images is None else scores.num_images
            tally.add(scores.loss, scores.num_correct, num_images)
        else:
            optimizer.zero_grad(set_to_none=True)
            logits = _logits(model(images))
            loss = criterion(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if measure is not None:
                loss = measure(logits.detach(), labels)
            tally.add_logits(loss, logits, labels)
        if learn is None:
            optimizer.step()
        if on_batch is not None:
            on_batch(epoch, tally)
    if tally.num_images == 0:
        raise ValueError("`train_loader` yields no batches")
    return tally, float(optimizer.param_groups[0]["lr"])


@torch.no_grad()
def score(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    loader: Loader,
    device: torch.device | str,
    *,
    predict: Callable[[Tensor], Tensor] | None = None,
) -> Tally:
    """Return loss and hits over a loader, in one pass and without learning."""
    model.eval()
    tally = Tally()
    for images, labels in _batches(loader, 0):
        images, labels = images.to(device), labels.to(device)
        logits = _logits(model(images) if predict is None else predict(images))
        tally.add_logits(criterion(logits, labels), logits, labels)
    return tally


def get_accuracy(
    model: nn.Module, data_loader: Iterable[Batch], device: torch.device | str
) -> Tensor:
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

    return torch.tensor(score(model, no_loss, data_loader, device).accuracy)
