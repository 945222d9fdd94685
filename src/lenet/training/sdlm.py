"""The paper's stochastic diagonal Levenberg-Marquardt method, one pattern at a time.

Source: LeCun et al. 1998, appendix C, eqs. (18) to (21), (25) to (27); section III.B for eta.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.data.digits import order, to_input
from lenet.models import LeNet5_1998
from lenet.training.curvature import CURVATURE_PATTERNS, estimate_curvature

MU = 0.02
"""Keeps a rate finite where the curvature is 0. Source: section III.B."""


class StochasticDiagonalLM(Optimizer):
    """w_k <- w_k - eta / (mu + h_kk) * dE/dw_k, with `lr` as eta and h_kk set from outside."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, mu: float = MU) -> None:
        """Take the parameters; until `set_curvature`, h_kk is 0."""
        super().__init__(params, {"lr": lr, "mu": mu})

    def set_curvature(self, h_kk: Sequence[Tensor], *, share: float = 1.0) -> None:
        """Fix h_kk for the steps to come.

        Args:
            h_kk: Of each parameter in its order and shape, at least 0.
            share: Of these values in the new ones, the rest being the old ones; 1 forgets them.
        """
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, h in zip(parameters, h_kk, strict=True):
            self.state[parameter]["h_kk"] = self._h_kk(parameter).lerp(h.detach(), share)

    def rates(self) -> list[Tensor]:
        """Return eps_k = eta / (mu + h_kk) of each parameter."""
        return [
            group["lr"] / (group["mu"] + self._h_kk(parameter))
            for group in self.param_groups
            for parameter in group["params"]
        ]

    def _h_kk(self, parameter: nn.Parameter) -> Tensor:
        h: Tensor = self.state[parameter].get("h_kk", torch.zeros_like(parameter))
        return h

    @overload
    def step(self, closure: None = ...) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step; without a closure, by the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    h = self._h_kk(parameter)
                    parameter.addcdiv_(parameter.grad, h + group["mu"], value=-group["lr"])
        return loss


def refresh_curvature(
    optimizer: StochasticDiagonalLM,
    model: LeNet5_1998,
    images: Tensor,
    *,
    rubbish: float | None,
    running: bool,
    seed: int,
    epoch: int,
) -> None:
    """Estimate h_kk on patterns drawn for a pass, as the paper does before each.

    Args:
        optimizer: Of the model's parameters, in their order.
        model: As for `estimate_curvature`.
        images: (N, 28, 28) uint8, the training images, undistorted.
        rubbish: As for `estimate_curvature`.
        running: Average over the passes so far, this one included; otherwise, as the paper is
            worded, this estimate replaces the last. Why: docs/lenet5-1998.md, "open questions".
        seed: Of the run; decides which patterns.
        epoch: Counted from 0; decides which patterns too.
    """
    # The paper does not say which 500: here a fresh draw for each pass.
    chosen = order(len(images), seed, epoch)[:CURVATURE_PATTERNS].to(images.device)
    h_kk = estimate_curvature(model, to_input(images[chosen]), rubbish=rubbish)
    optimizer.set_curvature(h_kk, share=1 / (epoch + 1) if running else 1.0)
