"""What every network here has in common."""

import torch
from torch import Tensor, nn

OVERSHOOT = 0.1
"""How far beyond [0, 1] a pixel may lie, as some resampling makes it."""


def check_pixels(x: Tensor, model: nn.Module) -> None:
    """Refuse pixels that are not in [0, 1], of a model in evaluation mode.

    Not checked in training mode, nor while a graph is captured (torch.compile, torch.export).

    Raises:
        ValueError: They are bytes in 0..255, or standardized.
    """
    if model.training or torch.compiler.is_compiling() or not x.numel():
        return
    low, high = (float(value) for value in torch.aminmax(x.detach()))
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        raise ValueError(
            f"`x` has values from {low:.4g} to {high:.4g}; expected pixels in [0, 1], 1 = ink: "
            "divide bytes by 255, and do not standardize (the network scales its input itself)"
        )


class Network(nn.Module):
    """A network that takes pixels and returns logits (B, num_classes), larger = likelier."""

    num_classes: int

    def config(self) -> dict[str, int | float | str]:
        """Return the arguments that build this network again."""
        raise NotImplementedError

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Return the kernels of C1 (6, C, 5, 5) and of C3 (16, 6, 5, 5)."""
        raise NotImplementedError

    def prepare(self, x: Tensor) -> Tensor:
        """Return the field (B, C, 32, 32) that C1 sees, of pixels (B, C, 28, 28) in [0, 1]."""
        raise NotImplementedError
