"""The LeNet-5 of the paper, layer by layer, with the paper's names.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proc. IEEE 86 (1998), sections II.B and II.C, Table I, Fig. 3, appendix A. What the paper leaves
open is in docs/lenet5-1998.md, "open questions".
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet.models.lenet5 import Network

A, S = 1.7159, 2 / 3
"""f(a) = A tanh(S a): f(1) = 1, f(-1) = -1. Source: eq. (6), appendix A."""

# Table I: the maps of S2 that each map of C3 looks at.
TABLE_1 = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip
DENSE = (tuple(range(6)),) * 16
CONNECTIONS = {"table": TABLE_1, "dense": DENSE}
POOLINGS_1998 = ("trainable", "average")
OUTPUTS = ("rbf", "linear")
INITS = ("sqrt", "linear")


# The codes of the ten output units: stylized drawings of the digits, twelve rows of seven cells,
# top to bottom, each row a number of seven bits, the left cell the highest; a 1 is a black cell.
# Source: Fig. 3, read cell by cell.
_DRAWINGS = (
    "3e 00 1c 36 63 63 63 63 36 1c 00 00",  # 0
    "0c 1c 3c 0c 0c 0c 0c 0c 0c 3f 00 00",  # 1
    "3e 00 3e 63 43 06 1c 30 60 7f 00 00",  # 2
    "7f 03 06 0c 1e 03 03 03 63 3e 00 00",  # 3
    "3e 00 00 33 33 73 63 63 67 3f 03 03",  # 4
    "3e 00 7f 60 60 3c 1e 03 63 3e 00 00",  # 5
    "1e 30 60 60 7e 73 63 63 73 3e 00 00",  # 6
    "7f 03 03 06 0c 0c 18 18 18 18 00 00",  # 7
    "3e 63 63 63 3e 63 63 63 63 3e 00 00",  # 8
    "3e 67 63 63 67 3f 03 03 06 3c 00 00",  # 9
)


def code(drawing: str) -> tuple[int, ...]:
    """Return the code that a drawing stands for: 84 numbers, +1 for black and -1.

    Example:
        >>> code("0c 1c 3c 0c 0c 0c 0c 0c 0c 3f 00 00")[:7]
        (-1, -1, -1, 1, 1, -1, -1)
    """
    rows = [int(row, 16) for row in drawing.split()]
    return tuple(1 if row >> (6 - cell) & 1 else -1 for row in rows for cell in range(7))


DIGIT_CODES = tuple(map(code, _DRAWINGS))


def squash(a: Tensor) -> Tensor:
    """Return f(a) = A tanh(S a)."""
    return A * torch.tanh(S * a)


def squash_slope(a: Tensor) -> Tensor:
    """Return f'(a)."""
    return A * S * (1 - torch.tanh(S * a) ** 2)


def spread(init: str, fan_in: int | Tensor) -> Tensor:
    """Return the range from which weights of a unit with that fan-in are drawn, evenly.

    "linear" is the paper's 2.4 / fan-in (appendix A). Under the paper's rates it does not learn,
    and with "sqrt" the rates of the first pass are those that the paper reports: see
    docs/lenet5-1998.md, "open questions".
    """
    fan_in = torch.as_tensor(fan_in, dtype=torch.float32)
    return 2.4 / fan_in if init == "linear" else 1.2 / fan_in.sqrt()


def draw(shape: Sequence[int], spread: Tensor) -> nn.Parameter:
    """Return a parameter drawn evenly from +-spread."""
    return nn.Parameter((torch.rand(*shape) * 2 - 1) * spread)


class Subsampling(nn.Module):
    """S2, S4: weighted sums of units that look at 2x2 units, one coefficient for the four."""

    def __init__(self, num_maps: int, *, init: str) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((num_maps,), 0.5))
        self.bias = draw((num_maps,), spread(init, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sums (B, maps, H/2, W/2) for x (B, maps, H, W)."""
        sums = 4 * F.avg_pool2d(x, 2)
        return sums * self.coefficient[:, None, None] + self.bias[:, None, None]


class MapConvolution(nn.Module):
    """C1, C3, C5: convolutions in which a map looks at some of the maps before it.

    `weight` holds a 5x5 kernel for each pair that is connected, and nothing for the others.
    """

    maps: Tensor
    """The map of each kernel; (kernels,) int64."""
    inputs: Tensor
    """The map before it that the kernel looks at; (kernels,) int64."""

    def __init__(
        self, table: Sequence[Sequence[int]], num_inputs: int, size: int = 5, *, init: str
    ) -> None:
        """Build a map for each entry of the table.

        Args:
            table: For each map, the maps that it looks at.
            num_inputs: Maps before it.
            size: Side of the kernels, in units.
            init: Key of `INITS`.
        """
        super().__init__()
        self.num_inputs = num_inputs
        maps = [o for o, row in enumerate(table) for _ in row]
        # Fixed by the table, which the configuration names: not part of the saved tensors.
        self.register_buffer("maps", torch.tensor(maps), persistent=False)
        inputs = torch.tensor([c for row in table for c in row])
        self.register_buffer("inputs", inputs, persistent=False)
        ranges = spread(init, torch.tensor([len(row) * size**2 for row in table]))
        self.weight = draw((len(maps), size, size), ranges[maps][:, None, None])
        self.bias = draw((len(table),), ranges)

    def kernels(self) -> Tensor:
        """Return the kernels (maps, num_inputs, size, size), zeros where none is."""
        shape = len(self.bias), self.num_inputs, *self.weight.shape[1:]
        return self.weight.new_zeros(shape).index_put((self.maps, self.inputs), self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sums (B, maps, H - 4, W - 4) for x (B, num_inputs, H, W)."""
        return F.conv2d(x, self.kernels(), self.bias)


class FullConnection(nn.Module):
    """F6, and the linear output that the paper does not have."""

    def __init__(self, num_inputs: int, num_units: int, *, init: str) -> None:
        super().__init__()
        self.weight = draw((num_units, num_inputs), spread(init, num_inputs))
        self.bias = draw((num_units,), spread(init, num_inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sums (B, units) for x (B, inputs)."""
        return F.linear(x, self.weight, self.bias)


class RBF(nn.Module):
    """The output: a unit for each class, whose penalty is the squared distance from its code."""

    codes: Tensor
    """(10, 84) float, +1 or -1."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.tensor(DIGIT_CODES, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return the penalties y (B, 10) of x (B, 84), smaller = likelier. Source: eq. (7)."""
        return ((x.unsqueeze(1) - self.codes) ** 2).sum(2)


class LeNet5_1998(Network):  # noqa: N801  # the year is part of the name
    """The paper's LeNet-5: 60,000 trainable parameters, 340,908 connections.

    Example:
        >>> import torch
        >>> model = LeNet5_1998()
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in model.parameters())
        60000
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        connections: str = "table",
        pooling: str = "trainable",
        output: str = "rbf",
        init: str = "sqrt",
        background: float = -0.1,
        ink: float = 1.175,
    ) -> None:
        """Build the network with initial weights drawn from torch's generator.

        Args:
            num_classes: 10: the codes of the output are those of the ten digits.
            connections: Of C3 with S2: the paper's "table" or "dense".
            pooling: The paper's "trainable" coefficient and bias, squashed, or a plain "average".
            output: The paper's "rbf" units with fixed codes, or a trainable "linear" layer.
            init: How initial weights depend on the fan-in: see `spread`.
            background: What a pixel of 0 becomes at the input of C1.
            ink: What a pixel of 1 becomes.

        Raises:
            ValueError: An argument is not one of those named.
        """
        for name, value, allowed in (
            ("num_classes", num_classes, (10,)),
            ("connections", connections, tuple(CONNECTIONS)),
            ("pooling", pooling, POOLINGS_1998),
            ("output", output, OUTPUTS),
            ("init", init, INITS),
        ):
            if value not in allowed:
                raise ValueError(f"`{name}` (={value!r}) must be one of {list(allowed)}")
        super().__init__(num_classes, in_channels=1, resize="pad", background=background, ink=ink)
        self.connections, self.pooling, self.output_kind = connections, pooling, output
        trainable = pooling == "trainable"
        self.c1 = MapConvolution([(0,)] * 6, 1, init=init)
        self.s2 = Subsampling(6, init=init) if trainable else nn.AvgPool2d(2)
        self.c3 = MapConvolution(CONNECTIONS[connections], 6, init=init)
        self.s4 = Subsampling(16, init=init) if trainable else nn.AvgPool2d(2)
        self.c5 = MapConvolution([range(16)] * 120, 16, init=init)
        self.f6 = FullConnection(120, 84, init=init)
        self.output = RBF() if output == "rbf" else FullConnection(84, num_classes, init=init)

    def config(self) -> dict[str, int | float | str]:
        """Return the arguments that build this network again."""
        return {
            "num_classes": self.num_classes,
            "connections": self.connections,
            "pooling": self.pooling,
            "output": self.output_kind,
            "background": float(self.background),
            "ink": float(self.ink),
        }

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Return the kernels of C1 (6, 1, 5, 5) and of C3 (16, 6, 5, 5), zeros where none is."""
        return self.c1.kernels().detach(), self.c3.kernels().detach()

    def layers(self) -> list[tuple[nn.Module, bool]]:
        """Return C1 to F6, each with whether its weighted sums are squashed."""
        squashed = self.pooling == "trainable"
        return [
            (self.c1, True),
            (self.s2, squashed),
            (self.c3, True),
            (self.s4, squashed),
            (self.c5, True),
            (nn.Flatten(), False),
            (self.f6, True),
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Return the negated penalties as logits.

        Args:
            x: (B, 1, 28, 28) float in [0, 1], 1 = ink.

        Returns:
            (B, 10) float, larger = likelier.
        """
        x = self.prepare(x)  # (B, 1, 32, 32)
        for layer, squashed in self.layers():
            # (B, 6, 28, 28), (B, 6, 14, 14), (B, 16, 10, 10), (B, 16, 5, 5), (B, 120, 1, 1),
            # (B, 120), (B, 84)
            x = squash(layer(x)) if squashed else layer(x)
        x = self.output(x)  # (B, 10)
        return -x if self.output_kind == "rbf" else x
