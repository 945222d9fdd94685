"""Loss functions, by name."""

from collections.abc import Callable

from torch import nn

LOSSES: dict[str, Callable[[float], nn.Module]] = {
    "cross_entropy": lambda label_smoothing: nn.CrossEntropyLoss(label_smoothing=label_smoothing),
}
