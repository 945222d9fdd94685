"""How the paper trains: its criteria, and stochastic diagonal Levenberg-Marquardt steps.

Source: LeCun et al. 1998, section II.C for the criteria; appendix C, eqs. (18) to (21), (25) to
(27), for the steps; section III.B for eta.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Self, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.data.digits import order, to_input
from lenet.models import Network
from lenet.models.lenet5_1998 import LeNet5_1998
from lenet.training.curvature import CURVATURE_PATTERNS, estimate_curvature
from lenet.training.learners import NativeLearner, Tally, TorchLearner
from lenet.training.optimization import garbage_penalty
from lenet.training.recipe import Recipe

PATTERNS_PER_CALL = 500
"""Patterns of one call of the kernels: some 25 ms, so that Ctrl-C and the progress bar wait no
longer. Changes nothing in the result."""
MU = 0.02
"""Keeps a rate finite where the curvature is 0. Source: section III.B."""


class MSE(nn.Module):
    """The paper's mean penalty of the true class. Source: LeCun et al. 1998, eq. (8).

    The penalty is the squared distance from the class's code, hence the name.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of -logits at the labels, for logits (B, n), labels (B,)."""
        return F.nll_loss(logits, labels)


class MAP(nn.Module):
    """The paper's maximum a posteriori criterion. Source: LeCun et al. 1998, eq. (9).

    With logits -y_i it is the cross-entropy over the classes and a garbage class, whose penalty
    is the constant j. An infinite j leaves plain cross-entropy.

    Example:
        >>> import math
        >>> logits, labels = torch.tensor([[-1.0, -2.0]]), torch.tensor([0])
        >>> expected = 1 + math.log(math.exp(-3) + math.exp(-1) + math.exp(-2))
        >>> abs(float(MAP(3.0)(logits, labels)) - expected) < 1e-6
        True
    """

    def __init__(self, j: float) -> None:
        """Set j, the penalty of the garbage class."""
        super().__init__()
        self.j = j

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean criterion of logits (B, n), labels (B,)."""
        garbage = logits.new_full((len(logits), 1), -self.j)
        return F.cross_entropy(torch.cat([logits, garbage], 1), labels)


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


class PatternLearner(TorchLearner):
    """Trains the paper's network as the paper does: one pattern a step, h_kk anew for each pass."""

    can_share = False
    recipe: Recipe
    seed: int

    @classmethod
    def for_recipe(cls, recipe: Recipe, model: Network, *, seed: int, num_threads: int) -> Self:
        """Return a learner of a recipe's network."""
        learner = super().for_recipe(recipe, model, seed=seed, num_threads=num_threads)
        learner.recipe, learner.seed = recipe, seed
        return learner

    def begin_epoch(self, epoch: int, images: Tensor) -> None:
        """Estimate h_kk on patterns drawn for this pass, as the paper does before each.

        Where the recipe says "running", h_kk is the average over the passes so far; otherwise, as
        the paper is worded, the estimate replaces the last. Why: docs/lenet5-1998.md.
        """
        super().begin_epoch(epoch, images)
        assert isinstance(self.model, LeNet5_1998)
        assert isinstance(self.optimizer, StochasticDiagonalLM)
        # The paper does not say which 500: here a fresh draw for each pass.
        chosen = order(len(images), self.seed, epoch)[:CURVATURE_PATTERNS].to(images.device)
        garbage = garbage_penalty(self.recipe)
        h_kk = estimate_curvature(self.model, to_input(images[chosen]), garbage=garbage)
        is_running = self.recipe.curvature == "running"
        self.optimizer.set_curvature(h_kk, share=1 / (epoch + 1) if is_running else 1.0)


class NativePatternLearner(PatternLearner, NativeLearner):
    """The same by the compiled kernels, which take many patterns in a call."""

    @classmethod
    def for_recipe(cls, recipe: Recipe, model: Network, *, seed: int, num_threads: int) -> Self:
        """Return a learner; see `NativeLearner.for_recipe`."""
        learner = super().for_recipe(recipe, model, seed=seed, num_threads=num_threads)
        learner.batch_size = PATTERNS_PER_CALL
        return learner

    def step(self, images: Tensor, labels: Tensor, lr: float | None = None) -> Tally:
        """Present patterns one after the other, each with its update."""
        self.set_lr(lr)
        assert isinstance(self.optimizer, StochasticDiagonalLM)
        scores = self.kernels.learn(images, labels, self.optimizer.rates())
        return Tally(scores.loss, scores.num_correct, len(labels))
