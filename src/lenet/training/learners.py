"""Learners: one training step, by torch or by the compiled kernels, behind the same few methods.

A learner owns the model, its optimizer and the moving average of the weights. It saves and restores
all three, and computes the logits by which a finished epoch is scored. `make_learner` chooses one:

    TorchLearner          torch autograd, on any device
    NativeLearner         compiled kernels, on the CPU
    PatternLearner        the paper's optimizer, one pattern at a time (lenet.training.sdlm)
    SharedLearner         one of several processes; wraps another learner (lenet.training.shared)
    LineLearner           lines of digits beside single ones; wraps another learner, too
                          (lenet.training.line_learner)
"""

import logging
import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.data.digits import to_input
from lenet.errors import DivergenceError, LeNetError, RecipeError
from lenet.models import Network
from lenet.native.build import NativeUnavailableError
from lenet.training.optimization import LOSSES, WeightAverage, build_optimizer, garbage_penalty
from lenet.training.recipe import Recipe

ENGINES = ("auto", "native", "torch")

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Mean loss, a scalar, of logits (B, n) and labels (B,)."""

logger = logging.getLogger(__name__)


class Tally:
    """Loss and accuracy over the images counted so far.

    The sums stay on the device of the batches, so that no step makes a GPU wait for the host.
    """

    def __init__(
        self, loss: Tensor | float = 0.0, num_correct: Tensor | int = 0, num_images: int = 0
    ) -> None:
        """Count a batch by its mean loss and its number of correct labels."""
        self.loss_sum = loss * num_images
        self.num_correct = num_correct
        self.num_images = num_images

    def __iadd__(self, other: "Tally") -> Self:
        self.loss_sum += other.loss_sum
        self.num_correct += other.num_correct
        self.num_images += other.num_images
        return self

    @property
    def loss(self) -> float:
        """Mean loss; waits for the device."""
        return float(self.loss_sum) / max(1, self.num_images)

    @property
    def accuracy(self) -> float:
        """Share of images whose largest logit is the label's, 0..1; waits for the device."""
        return int(self.num_correct) / max(1, self.num_images)


def tally_logits(logits: Tensor, labels: Tensor, loss: Tensor) -> Tally:
    """Return the tally of a batch by its logits (B, n), labels (B,) and mean loss."""
    return Tally(loss.detach(), (logits.detach().argmax(1) == labels).sum(), len(labels))


def require_finite(tally: Tally, epoch: int) -> None:
    """Raise DivergenceError if the training loss of an epoch is infinite or not a number."""
    if not math.isfinite(tally.loss):
        raise DivergenceError(
            f"the training loss of epoch {epoch + 1} is {tally.loss}; try a smaller learning rate"
        )


def forward(model: nn.Module, images: Tensor) -> Tensor:
    """Return a model's logits of images: (B, 28, 28) uint8, or floats as the model takes them."""
    output = model(to_input(images) if images.dtype == torch.uint8 else images)
    # The notebook's own model returns (logits, probabilities).
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return logits


class TorchLearner:
    """Trains a model by torch autograd, one optimizer step a batch, on any device."""

    engine = "torch"
    can_share = True
    """Whether several processes can each take a part of a batch."""

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        optimizer: Optimizer,
        *,
        report: Criterion | None = None,
        average: WeightAverage | None = None,
        batch_size: int = 1,
    ) -> None:
        """Take what is trained, and how.

        Args:
            model: Images to logits, or to a tuple whose first item is the logits.
            criterion: The loss to minimize.
            optimizer: Of the model's parameters.
            report: The loss to report, where it is not the one minimized.
            average: Moving average of the weights; it is scored and kept in place of the model.
            batch_size: How many images to draw for each step.
        """
        self.model, self.criterion, self.optimizer = model, criterion, optimizer
        self.report, self.average, self.batch_size = report or criterion, average, batch_size

    @classmethod
    def for_recipe(cls, recipe: Recipe, model: Network, *, seed: int, num_threads: int) -> Self:
        """Return a learner of a recipe's network, on the device that it is on."""
        optimizer = build_optimizer(recipe, list(model.parameters()))
        return cls(model, LOSSES[recipe.loss](recipe), optimizer, **_settings(recipe, model))

    @property
    def result(self) -> nn.Module:
        """The model to score and keep: the average of the weights where there is one."""
        return self.model if self.average is None else self.average.model

    def begin_epoch(self, epoch: int, images: Tensor) -> None:
        """Prepare for an epoch, counted from 0, over training images (N, 28, 28) uint8."""
        self.model.train()

    def step(self, images: Tensor, labels: Tensor, lr: float | None = None) -> Tally:
        """Train on one batch, and return its loss and accuracy from before the step.

        Args:
            images: (B, 28, 28) uint8, or what the model takes: (B, 1, 28, 28) float in [0, 1].
            labels: (B,) int64.
            lr: Learning rate; None leaves the optimizer's own.
        """
        self.set_lr(lr)
        tally = self.gradients(images, labels)
        self.optimizer.step()
        self.update_average()
        return tally

    def gradients(self, images: Tensor, labels: Tensor) -> Tally:
        """Leave the gradients of a batch's mean loss in the parameters; see `step`."""
        self.optimizer.zero_grad(set_to_none=True)
        logits = forward(self.model, images)
        loss = self.criterion(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if self.report is not self.criterion:
            loss = self.report(logits.detach(), labels)
        return tally_logits(logits, labels, loss)

    def set_lr(self, lr: float | None) -> None:
        """Set the learning rate of the next step; None leaves it."""
        if lr is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = lr

    def update_average(self) -> None:
        """Move the average of the weights, after a step."""
        if self.average is not None:
            self.average.update()

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (B, n) that `result` gives for images; see `step`."""
        self.result.eval()
        return forward(self.result, images)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors: all that `load_state_dict` needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the `state_dict` of any learner of the same recipe."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


class NativeLearner(TorchLearner):
    """Trains a network by the compiled kernels, on the CPU.

    They work on the model's own parameters and the optimizer's state is torch's, so a run may stop
    under one engine and continue under another.
    """

    engine = "native"
    kernels: Any
    """Of the model that is trained; see `lenet.native.engine.load_engine`."""
    scorer: Any
    """Of the model that is scored."""
    is_fused: bool
    """Whether the kernels take the optimizer's step in the same call."""

    @classmethod
    def for_recipe(cls, recipe: Recipe, model: Network, *, seed: int, num_threads: int) -> Self:
        """Return a learner of a recipe's network.

        Raises:
            NativeUnavailableError: The kernels can't be had on this machine or for this network.
        """
        from lenet.native.engine import load_engine

        kernels = load_engine(
            model,
            label_smoothing=recipe.label_smoothing,
            garbage=garbage_penalty(recipe),
            num_threads=num_threads,
        )
        optimizer = build_optimizer(recipe, list(model.parameters()))
        criterion = LOSSES[recipe.loss](recipe)
        learner = cls(model, criterion, optimizer, **_settings(recipe, model))
        learner.kernels = kernels
        result: Network = learner.result  # type: ignore[assignment]  # a recipe's
        learner.scorer = load_engine(result, num_threads=num_threads)
        # LeNet-5's kernels take Adam's step in the same call.
        learner.is_fused = recipe.model == "lenet5" and recipe.optimizer in ("adam", "adamw")
        return learner

    def step(self, images: Tensor, labels: Tensor, lr: float | None = None) -> Tally:
        """Train on one batch; see `TorchLearner.step`."""
        if not self.is_fused:
            return super().step(images, labels, lr)
        self.set_lr(lr)
        scores = self.kernels.learn(images, labels, self.optimizer)
        self.update_average()
        return Tally(scores.loss, scores.num_correct, len(labels))

    def gradients(self, images: Tensor, labels: Tensor) -> Tally:
        """Leave the gradients of a batch's mean loss in the parameters."""
        scores = self.kernels.loss_and_gradients(images, labels)
        return Tally(scores.loss, scores.num_correct, len(labels))

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (B, n) that `result` gives for images."""
        logits: Tensor = self.scorer.logits(images)
        return logits


class WrappedLearner(TorchLearner):
    """Another learner's model, optimizer and average; a subclass changes how a step is taken."""

    def __init__(self, learner: TorchLearner) -> None:
        """Wrap a learner, which stays the one that scores images."""
        super().__init__(
            learner.model,
            learner.criterion,
            learner.optimizer,
            report=learner.report,
            average=learner.average,
            batch_size=learner.batch_size,
        )
        self.engine = learner.engine
        self.learner = learner

    def begin_epoch(self, epoch: int, images: Tensor) -> None:
        """Prepare for an epoch; see `TorchLearner.begin_epoch`."""
        self.learner.begin_epoch(epoch, images)

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits that `result` gives for images; see `TorchLearner.logits`."""
        return self.learner.logits(images)


def _settings(recipe: Recipe, model: Network) -> dict[str, Any]:
    # Recipes report plain cross-entropy, of the labels as they are.
    is_plain = recipe.loss == "cross_entropy" and not recipe.label_smoothing
    return {
        "report": None if is_plain else nn.CrossEntropyLoss(),
        "average": WeightAverage(model, recipe.ema) if recipe.ema else None,
        "batch_size": recipe.batch_size,
    }


def make_learner(
    recipe: Recipe, model: Network, *, engine: str = "auto", seed: int = 0, num_threads: int = 1
) -> TorchLearner:
    """Return the learner of a recipe's network.

    Args:
        recipe: Names loss and optimizer.
        model: Its device decides too: the kernels are for the CPU.
        engine: "native" insists on the kernels; "auto" takes torch where they can't be had, and
            logs why.
        seed: Of the run; the paper's optimizer draws patterns by it.
        num_threads: Of the kernels; changes the speed, not the results.

    Raises:
        RecipeError: `engine` is not one of `ENGINES`.
        LeNetError: "native", and the kernels can't be had.
    """
    native: type[TorchLearner] = NativeLearner
    by_torch: type[TorchLearner] = TorchLearner
    if recipe.optimizer == "sdlm":
        from lenet.training.sdlm import NativePatternLearner, PatternLearner

        native, by_torch = NativePatternLearner, PatternLearner
    if wants_native(engine, model):
        try:
            return native.for_recipe(recipe, model, seed=seed, num_threads=num_threads)
        except NativeUnavailableError as error:
            explain_unavailable(engine, error)
    return by_torch.for_recipe(recipe, model, seed=seed, num_threads=num_threads)


def wants_native(engine: str, model: nn.Module) -> bool:
    """Return whether to try the compiled kernels for a model."""
    if engine not in ENGINES:
        raise RecipeError(f"`engine` (={engine!r}) must be one of: {', '.join(ENGINES)}")
    on_cpu = next(model.parameters()).device.type == "cpu"
    return engine == "native" or (engine == "auto" and on_cpu)


def explain_unavailable(engine: str, error: NativeUnavailableError) -> None:
    """Log why torch computes in place of the kernels, or raise if they were asked for."""
    if engine == "native":
        raise LeNetError(f"the native engine can't be had: {error}") from None
    logger.warning("torch computes, several times slower than the compiled kernels: %s", error)
