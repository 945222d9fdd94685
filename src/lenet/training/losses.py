"""Loss functions, by name."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MSE(nn.Module):
    """The paper's mean penalty of the true class. Source: LeCun et al. 1998, eq. (8).

    The penalty is the squared distance from the class's code, hence the name.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of -logits at the labels, for logits (B, n), labels (B,)."""
        return F.nll_loss(logits, labels)


class MAP(nn.Module):
    """The paper's maximum a posteriori criterion. Source: LeCun et al. 1998, eq. (9).

    With logits -y_i it is the cross-entropy over the classes and one more, "rubbish", whose
    penalty is the constant j. An infinite j leaves plain cross-entropy.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[-1.0, -2.0]]), torch.tensor([0])
        >>> expected = 1 + math.log(math.exp(-3) + math.exp(-1) + math.exp(-2))
        >>> abs(float(MAP(3.0)(logits, labels)) - expected) < 1e-6
        True
    """

    def __init__(self, rubbish: float) -> None:
        """Take j, the penalty of the rubbish class."""
        super().__init__()
        self.rubbish = rubbish

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean criterion of logits (B, n), labels (B,)."""
        rubbish = logits.new_full((len(logits), 1), -self.rubbish)
        return F.cross_entropy(torch.cat([logits, rubbish], 1), labels)


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": lambda smoothing=0.0, map_j=0.0: nn.CrossEntropyLoss(
        label_smoothing=smoothing
    ),
    "mse": lambda smoothing=0.0, map_j=0.0: MSE(),
    "map": lambda smoothing=0.0, map_j=0.0: MAP(map_j),
}
"""Called with a recipe's `label_smoothing` and `map_j`."""


def rubbish_penalty(loss: nn.Module) -> float | None:
    """Return j of a MAP criterion: infinite for cross-entropy, None for the MSE, which has none."""
    if isinstance(loss, MSE):
        return None
    return loss.rubbish if isinstance(loss, MAP) else math.inf
