"""The networks, by name, and their initial weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from lenet.models.lenet5 import LeNet5, Network

if TYPE_CHECKING:
    from lenet.training.recipe import Recipe

__all__ = ["MODELS", "LeNet5", "Network", "build_network", "network_class"]

MODELS = ("lenet5", "lenet5-1998")


def network_class(name: str) -> Callable[..., Network]:
    """Return the class of a name in `MODELS`; that of 1998 is loaded when first asked for."""
    if name == "lenet5":
        return LeNet5
    from lenet.models.lenet5_1998 import LeNet5_1998

    return LeNet5_1998


def build_network(recipe: "Recipe", seed: int, *, num_classes: int = 10) -> Network:
    """Return a recipe's network with the seed's initial weights, on the CPU.

    The weights of `LeNet5` are PyTorch's defaults, drawn after `torch.manual_seed(seed)` as in the
    notebook; the caller's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe.model == "lenet5-1998":
            from lenet.models.lenet5_1998 import LeNet5_1998

            return LeNet5_1998(
                num_classes,
                connections=recipe.connections,
                pooling=recipe.pooling,
                output=recipe.output,
                init=recipe.init,
                background=recipe.background,
                ink=recipe.ink,
            )
        return LeNet5(
            num_classes,
            activation=recipe.activation,
            pooling=recipe.pooling,
            resize=recipe.resize,
            background=recipe.background,
            ink=recipe.ink,
        )
