"""What a recipe's names stand for: losses, optimizers, learning-rate schedules, weight averages.

To add one, add an entry to `LOSSES`, `OPTIMIZERS` or `SCHEDULES`, and its name to the field of
`Recipe` that chooses it.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from lenet.training.recipe import Recipe

SGD_MOMENTUM = 0.9


def _mse(recipe: Recipe) -> nn.Module:
    from lenet.training.sdlm import MSE

    return MSE()


def _map(recipe: Recipe) -> nn.Module:
    from lenet.training.sdlm import MAP

    return MAP(recipe.map_j)


LOSSES: dict[str, Callable[[Recipe], nn.Module]] = {
    "cross_entropy": lambda recipe: nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
    "mse": _mse,
    "map": _map,
}


def garbage_penalty(recipe: Recipe) -> float | None:
    """Return j, the penalty of the garbage class; infinite for cross-entropy, None for the MSE."""
    return {"cross_entropy": math.inf, "mse": None, "map": recipe.map_j}[recipe.loss]


def _sgd(parameters: list[nn.Parameter], **settings: Any) -> Optimizer:
    return SGD(parameters, momentum=SGD_MOMENTUM, **settings)


def _adam(parameters: list[nn.Parameter], **settings: Any) -> Optimizer:
    return Adam(parameters, fused=_can_fuse(parameters), **settings)


def _adamw(parameters: list[nn.Parameter], **settings: Any) -> Optimizer:
    return AdamW(parameters, fused=_can_fuse(parameters), **settings)


def _sdlm(parameters: list[nn.Parameter], **settings: Any) -> Optimizer:
    from lenet.training.sdlm import StochasticDiagonalLM

    return StochasticDiagonalLM(parameters, settings["lr"])  # recipes admit no decay


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    # One kernel for all ten tensors: on the CPU the step then costs a fifth (docs/decisions.md).
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
    "sdlm": _sdlm,
}
"""Called with the parameters, `lr` and `weight_decay`."""


def build_optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> Optimizer:
    """Return the recipe's optimizer."""
    optimizer = OPTIMIZERS[recipe.optimizer]
    return optimizer(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


# eta in passes of 20: 0.0005 for two, 0.0002 for three, 0.0001 for three, 0.00005 for four, then
# 0.00001. Source: LeCun et al. 1998, section III.B.
_LECUN_1998 = ((2 / 20, 1.0), (5 / 20, 0.4), (8 / 20, 0.2), (12 / 20, 0.1), (1.0, 0.02))

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "lecun1998": lambda done: next(factor for end, factor in _LECUN_1998 if done < end),
}
"""Factor on the peak learning rate, of the share of the steps after warm-up that are done, 0..1."""


def lr_at(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step of a run.

    Args:
        recipe: Its `lr` is the peak, which a linear warm-up reaches and `schedule` falls from.
        step: 0 for the first step of the run.
        steps_per_epoch: The paper's schedule changes the rate between epochs only.

    Returns:
        Greater than 0, so that no step is wasted.

    Example:
        >>> recipe = Recipe(lr=1.0, schedule="linear", warmup=1 / 3, epochs=6)
        >>> [round(lr_at(recipe, step, 1), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    num_steps = recipe.epochs * steps_per_epoch
    num_warmup_steps = round(recipe.warmup * num_steps)
    if step < num_warmup_steps:
        return recipe.lr * ((step + 1) / num_warmup_steps)
    if recipe.schedule == "lecun1998":
        step = max(num_warmup_steps, step - step % steps_per_epoch)
    done = (step - num_warmup_steps) / (num_steps - num_warmup_steps)
    return recipe.lr * SCHEDULES[recipe.schedule](done)


class WeightAverage:
    """An exponential moving average of a model's parameters, as a model of its own.

    The first averages are shorter, so that the random initial weights are soon forgotten: after n
    updates the decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin with the model's weights.

        Args:
            model: The network that is trained.
            decay: Weight of the old average in an update, 0 to 1.
        """
        self.model = copy.deepcopy(model)
        self._decay = decay
        self._num_updates = 0
        self._sources = list(model.parameters())
        self._averages = list(self.model.parameters())

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's weights, after a step."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        averages: list[Tensor] = list(self._averages)
        torch._foreach_lerp_(averages, list(self._sources), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        return {"model": self.model.state_dict(), "num_updates": self._num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.model.load_state_dict(state["model"])
        self._num_updates = int(state["num_updates"])
