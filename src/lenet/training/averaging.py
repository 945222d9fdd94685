"""A moving average of the weights: less noisy than the last step's, at no cost when it is used."""

import copy
from typing import Any

import torch
from torch import Tensor

from lenet.models import Network


class WeightAverage:
    """An exponential moving average of a model's parameters, as a model of its own.

    The first averages are shorter, so that the random initial weights are soon forgotten: after n
    updates the decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, model: Network, decay: float) -> None:
        """Begin with the model's weights.

        Args:
            model: What is trained.
            decay: Weight of the old average in an update, 0 to 1.
        """
        self.model: Network = copy.deepcopy(model)
        self._decay = decay
        self._num_updates = 0
        self._sources = list(model.parameters())
        self._averages = list(self.model.parameters())

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights; to be called after each step."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        averages: list[Tensor] = list(self._averages)
        torch._foreach_lerp_(averages, list(self._sources), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        return {"model": self.model.state_dict(), "num_updates": self._num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.model.load_state_dict(state["model"])
        self._num_updates = int(state["num_updates"])
