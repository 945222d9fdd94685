"""LeNet-5 in integers: what the int8 C code needs in place of float weights.

A byte `q` of a layer's output stands for `low + step * q`. Weights are int8 with a step for each
output. What `low` contributes to a sum is the same for every window (nothing is padded after the
first layer), so it goes into the bias, and no zero point is left to subtract.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet.errors import ExportError
from lenet.export.calibration import layers_of, useful_range
from lenet.models import LeNet5

SHIFT = 30
"""Fractional bits of the factors that turn a sum into an index of a table."""
TABLE_SIZE = 2048
"""Entries of a squashing function's table: steps of an eighth of an output byte or less."""
TANH_LIMIT = 3.2
"""Beyond it, tanh rounds to 1 in 8 bits."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of the C code."""

    weights: NDArray[np.int8]
    """(outputs, ...)."""
    bias: NDArray[np.int32]
    """(outputs,) in units of `step`."""
    step: Floats
    """(outputs,): what 1 of a sum stands for."""
    factor: NDArray[np.int32] | None = None
    """(outputs,): sum to table index, SHIFT fractional bits; None for the last layer."""
    offset: int = 0
    """Added to the product, so that the table's first entry has index 0."""
    table: NDArray[np.uint8] | None = None
    """(TABLE_SIZE,) uint8: the squashing function of the values the indices stand for."""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """What a byte stands for."""

    low: float
    step: float


def quantize(model: LeNet5, ranges: dict[str, tuple[float, float]]) -> dict[str, Layer]:
    """Return the layers in integers.

    Args:
        model: On the CPU.
        ranges: As `find_ranges` returns them.

    Raises:
        ExportError: A factor does not fit into its bits: the weights are beyond all measure.
    """
    config = model.config()
    background, ink = float(config["background"]), float(config["ink"])
    scale = _Scale(low=background, step=(ink - background) / 255)
    squash = SQUASH[model.activation]
    quantized = {}
    for name, layer in layers_of(model).items():
        assert layer.bias is not None
        weights = layer.weight.detach().double().numpy()
        bias = layer.bias.detach().double().numpy()
        if name == "output":
            quantized[name] = _round(weights, bias, scale)
            continue
        rounded = _round(weights, bias, scale)
        low, high = useful_range(model.activation, *ranges[name], TANH_LIMIT)
        values = low + (np.arange(TABLE_SIZE) + 0.5) * (high - low) / TABLE_SIZE
        outputs = squash(values)
        scale = _Scale(low=outputs.min(), step=max(float(np.ptp(outputs)) / 255, 1e-12))
        factor = np.rint(rounded.step * TABLE_SIZE / (high - low) * 2**SHIFT)
        offset = int(np.rint(-low * TABLE_SIZE / (high - low) * 2**SHIFT))
        if np.abs(factor).max() >= 2**31 or abs(offset) >= 2**62:
            raise ExportError(f"{name}: its weights are too large for 8 bits; export float C code")
        quantized[name] = Layer(
            weights=rounded.weights,
            bias=rounded.bias,
            step=rounded.step,
            factor=factor.astype(np.int32),
            offset=offset,
            table=np.rint((outputs - scale.low) / scale.step).astype(np.uint8),
        )
    return quantized


def _round(weights: Floats, bias: Floats, scale: _Scale) -> Layer:
    """Round weights to int8 for inputs of this scale, and bias to units of their products."""
    flat = weights.reshape(len(weights), -1)
    largest = np.abs(flat).max(axis=1)
    unit = np.where(largest > 0, largest, 1.0) / 127
    rounded = np.rint(flat / unit[:, None])
    step = unit * (scale.step or 1e-12)
    total = bias + unit * scale.low * rounded.sum(axis=1)
    if np.abs(total / step).max() >= 2**30:
        raise ExportError("a bias is too large beside its weights for 8 bits; export float C code")
    return Layer(
        weights=rounded.astype(np.int8).reshape(weights.shape),
        bias=np.rint(total / step).astype(np.int32),
        step=step,
    )


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0.0)


def _silu(x: Floats) -> Floats:
    return np.asarray(x / (1 + np.exp(-x)))


SQUASH: dict[str, Callable[[Floats], Floats]] = {"tanh": np.tanh, "relu": _relu, "silu": _silu}
