"""Who computes loss and gradients: the compiled kernels where they can, torch everywhere."""

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.data.distortions import render
from lenet.errors import LeNetError, RecipeError
from lenet.models import LeNet5_1998, Network
from lenet.native import (
    Engine,
    NativeAdam,
    NativeEngine,
    NativeEngine1998,
    NativeUnavailableError,
    Renderer,
    load_renderer,
)
from lenet.parallel import num_cores
from lenet.results.scores import BatchScores
from lenet.training.optimizers import OPTIMIZERS
from lenet.training.recipe import Recipe

ENGINES = ("auto", "native", "torch")

logger = logging.getLogger(__name__)


def choose_engine(
    name: str,
    model: Network,
    *,
    label_smoothing: float = 0.0,
    rubbish: float | None = math.inf,
    num_threads: int = 0,
) -> Engine | None:
    """Return the native engine for a model, or None for torch's.

    Args:
        name: "native" insists; "auto" takes torch's where the kernels can't be had, and says why.
        model: Where it is decides too: the kernels are for the CPU.
        label_smoothing: As in `nn.CrossEntropyLoss`; for `LeNet5`.
        rubbish: As for `NativeEngine1998`; for `LeNet5_1998`.
        num_threads: 0 for one a core; the 1998 network takes one.

    Raises:
        RecipeError: Not one of `ENGINES`.
        LeNetError: "native", and the kernels can't be had.
    """
    if name not in ENGINES:
        raise RecipeError(f"`engine` (={name!r}) must be one of: {', '.join(ENGINES)}")
    on_cpu = next(model.parameters()).device.type == "cpu"
    if name == "torch" or (name == "auto" and not on_cpu):
        return None
    try:
        if isinstance(model, LeNet5_1998):
            if label_smoothing:
                raise NativeUnavailableError("those of lenet5-1998 know no label smoothing")
            return NativeEngine1998(model, rubbish=rubbish)
        return NativeEngine(
            model, label_smoothing=label_smoothing, num_threads=num_threads or num_cores()
        )
    except NativeUnavailableError as error:
        if name == "native":
            raise LeNetError(f"the native engine can't be had: {error}") from None
        times = 50 if isinstance(model, LeNet5_1998) else 5
        logger.warning(
            "torch's engine is used, some %d times slower than the native one: %s", times, error
        )
        return None


def logits_by(engine: Engine | None, model: Network) -> Callable[[Tensor], Tensor]:
    """Return who computes a model's logits: an engine like that of another model, or torch."""
    if engine is None:
        return model
    like = choose_engine("native", model, num_threads=engine.num_threads)
    return model if like is None else like.logits


def build_optimizer(
    recipe: Recipe, parameters: list[nn.Parameter], engine: Engine | None
) -> Optimizer:
    """Return a recipe's optimizer, with a compiled step where there is one.

    The state is the same either way, so a run may go on under another engine.
    """
    if engine is None or recipe.optimizer not in ("adam", "adamw"):
        return OPTIMIZERS[recipe.optimizer](parameters, recipe.lr, recipe.weight_decay)
    return NativeAdam(
        parameters,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        decoupled=recipe.optimizer == "adamw",
        num_threads=engine.num_threads,
    )


def whole_step(
    engine: Engine | None, optimizer: Optimizer
) -> Callable[[Tensor, Tensor], BatchScores] | None:
    """Return `learn` of `training_loop` where an engine can take Adam's step too, or None."""
    if isinstance(engine, NativeEngine) and isinstance(optimizer, NativeAdam):
        return lambda x, labels: engine.learn(x, labels, optimizer)
    return None


def choose_renderer(name: str, device: torch.device) -> Renderer:
    """Return who renders distorted images: what is compiled where it can be, or torch.

    Args:
        name: As for `choose_engine`.
        device: Where the images are.

    Raises:
        LeNetError: "native", and it can't be had.
    """
    if name == "torch" or device.type != "cpu":
        return render
    try:
        return load_renderer()
    except NativeUnavailableError as error:
        if name == "native":
            raise LeNetError(f"the native engine can't be had: {error}") from None
        logger.warning("torch distorts the images, some 5 times slower than compiled: %s", error)
        return render


def torch_threads(engine: Engine | None, num_threads: int) -> int:
    """Return how many threads torch is to use beside an engine, or as one; 1 unless asked for.

    On work this small, torch's threads gain a fifth on an idle machine and stall a busy one
    (docs/decisions.md); and with one, a seed's figures do not depend on the number of cores.
    """
    if engine is None and num_threads:
        return num_threads
    return 1


def describe_engine(engine: Engine | None) -> str:
    """Return a name for people and records."""
    return "torch" if engine is None else "native"
