"""The LeNet-5 of common PyTorch versions: dense C3, plain pooling, a linear output."""

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}
POOLINGS: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}
RESIZES = ("pad", "stretch")

FIELD = 32
"""Side of the field C1 looks at, in pixels: larger than any digit, so that a stroke's end
can lie in the middle of a C1 unit's window. Source: LeCun et al. 1998, section II.B."""
OVERSHOOT = 0.1
"""How far beyond [0, 1] a pixel may lie, as some resampling makes it."""


class Network(nn.Module):
    """What both networks have in common: pixels in, logits (B, num_classes) out, larger = likelier.

    Padding to 32x32 and scaling are the network's own first step, held as buffers.
    """

    background: Tensor
    """What a pixel of 0 becomes at the input of C1; ()."""
    ink: Tensor
    """What a pixel of 1 becomes; ()."""

    def __init__(
        self, num_classes: int, *, in_channels: int, resize: str, background: float, ink: float
    ) -> None:
        """Hold what `prepare` needs; for the arguments see the subclasses."""
        super().__init__()
        if not (math.isfinite(background) and math.isfinite(ink)):
            raise ValueError(f"`background` (={background}) and `ink` (={ink}) must be finite")
        self.num_classes, self.in_channels, self.resize = num_classes, in_channels, resize
        self.register_buffer("background", torch.tensor(float(background)))
        self.register_buffer("ink", torch.tensor(float(ink)))

    def config(self) -> dict[str, int | float | str]:
        """Return the arguments that build this network again."""
        raise NotImplementedError

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Return the kernels of C1 (6, C, 5, 5) and of C3 (16, 6, 5, 5)."""
        raise NotImplementedError

    def prepare(self, x: Tensor) -> Tensor:
        """Return the 32x32 field that C1 sees.

        Args:
            x: (B, C, 28, 28) float in [0, 1], 1 = ink; or (B, C, 32, 32), which is only scaled.

        Raises:
            ValueError: `x` has another shape or, in evaluation mode, another range.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2:] not in {(28, 28), (32, 32)}:
            raise ValueError(
                f"`x` has shape {tuple(x.shape)}; expected (B, {self.in_channels}, 28, 28) "
                f"or (B, {self.in_channels}, 32, 32)"
            )
        check_pixels(x, self)
        if x.shape[-1] != FIELD:
            if self.resize == "pad":
                x = F.pad(x, (2, 2, 2, 2))  # (B, C, 32, 32)
            else:
                x = F.interpolate(x, size=(FIELD, FIELD), mode="bilinear")  # (B, C, 32, 32)
        return self.scale(x)

    def scale(self, x: Tensor) -> Tensor:
        """Return pixels as C1 sees them: 0 becomes `background`, 1 becomes `ink`."""
        return self.background + x * (self.ink - self.background)


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


class LeNet5(Network):
    """LeNet-5 with 61,706 parameters: a convolutional feature extractor and a classifier.

    Example:
        >>> import torch
        >>> model = LeNet5(10)
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in model.parameters())
        61706
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        activation: str = "tanh",
        pooling: str = "average",
        resize: str = "pad",
        background: float = 0.0,
        ink: float = 1.0,
    ) -> None:
        """Build the network with PyTorch's initial weights, drawn from its global generator.

        Args:
            num_classes: Number of logits, at least 2.
            in_channels: Number of channels of the input.
            activation: "tanh", "relu" or "silu".
            pooling: "average" or "max", 2x2.
            resize: How 28x28 pixels become the 32x32 field: "pad" adds two pixels of background
                on each side, as the paper does; "stretch" interpolates, as the notebook does.
            background: What a pixel of 0 becomes at the input of C1.
            ink: What a pixel of 1 becomes.

        Raises:
            ValueError: An argument is not one of those named.
        """
        if activation not in ACTIVATIONS:
            raise ValueError(f"`activation` (={activation!r}) must be one of {list(ACTIVATIONS)}")
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` (={pooling!r}) must be one of {list(POOLINGS)}")
        if resize not in RESIZES:
            raise ValueError(f"`resize` (={resize!r}) must be one of {list(RESIZES)}")
        if num_classes < 2 or in_channels < 1:
            raise ValueError(
                f"`num_classes` (={num_classes}) must be at least 2 and "
                f"`in_channels` (={in_channels}) at least 1"
            )
        super().__init__(
            num_classes, in_channels=in_channels, resize=resize, background=background, ink=ink
        )
        self.activation, self.pooling = activation, pooling
        squash, pool = ACTIVATIONS[activation], POOLINGS[pooling]
        self.feature_extractor = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5),  # C1: (B, 6, 28, 28)
            squash(),
            pool(2),  # S2: (B, 6, 14, 14)
            nn.Conv2d(6, 16, kernel_size=5),  # C3: (B, 16, 10, 10)
            squash(),
            pool(2),  # S4: (B, 16, 5, 5)
            nn.Conv2d(16, 120, kernel_size=5),  # C5: (B, 120, 1, 1)
            squash(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(120, 84),  # F6
            squash(),
            nn.Linear(84, num_classes),  # output
        )

    def config(self) -> dict[str, int | float | str]:
        """Return the arguments that build this network again."""
        return {
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            "activation": self.activation,
            "pooling": self.pooling,
            "resize": self.resize,
            "background": float(self.background),
            "ink": float(self.ink),
        }

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Return the kernels of C1 (6, C, 5, 5) and of C3 (16, 6, 5, 5)."""
        c1, c3 = self.feature_extractor[0], self.feature_extractor[3]
        return cast(Tensor, c1.weight).detach(), cast(Tensor, c3.weight).detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits.

        Args:
            x: (B, C, 28, 28) float in [0, 1], 1 = ink.

        Returns:
            (B, num_classes) float, larger = likelier.
        """
        features = self.feature_extractor(self.prepare(x))  # (B, 120, 1, 1)
        return cast(Tensor, self.classifier(torch.flatten(features, 1)))

    def sweep(self, x: Tensor) -> Tensor:
        """Return the logits of the 32x32 window at every second column of wide fields.

        The same weights as a convolution over a line of writing, the paper's space displacement
        network (LeCun et al. 1998, section VII): S4 moves by one column in place of two, so that
        C5 takes every second column of what S4 gives.

        Args:
            x: (B, C, 32, W) float in [0, 1], 1 = ink, W at least 32.

        Returns:
            (B, T, num_classes) float, T = (W - 32) // 2 + 1.
        """
        c1, squash, s2, c3, _, _, c5, _ = self.feature_extractor
        # The five rows that C1 looks at become channels: torch then has its weights' gradient in a
        # third of the time. What follows is quicker with the channels last.
        x = self.scale(x).unfold(2, 5, 1).permute(0, 1, 4, 2, 3).flatten(1, 2)  # (B, 5 C, 28, W)
        x = F.conv2d(x, cast(Tensor, c1.weight).flatten(1, 2).unsqueeze(2), cast(Tensor, c1.bias))
        x = x.contiguous(memory_format=torch.channels_last)
        x = s2(squash(x))  # (B, 6, 14, (W - 4) // 2)
        pool = F.max_pool2d if self.pooling == "max" else F.avg_pool2d
        x = pool(squash(c3(x)), 2, stride=(2, 1))  # (B, 16, 5, T + 8)
        weight, bias = cast(Tensor, c5.weight), cast(Tensor, c5.bias)
        x = squash(F.conv2d(x, weight, bias, dilation=(1, 2)))  # (B, 120, 1, T)
        return cast(Tensor, self.classifier(x[:, :, 0].transpose(1, 2)))
