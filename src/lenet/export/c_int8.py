"""The constants of LeNet-5 in integers, for the int8 C code.

A byte `q` of a layer's output stands for `low + step * q`. Weights are int8 with a step for each
output. What `low` contributes to a sum is the same for every window (nothing is padded after the
first layer), so it goes into the bias, and no zero point is left to subtract.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lenet.errors import ExportError
from lenet.export.calibration import layers_of
from lenet.models import LeNet5
from lenet.models.lenet5 import ACTIVATIONS

SHIFT = 30
"""Fractional bits of the factors that turn a sum into an index of a table."""
TABLE_SIZE = 2048
"""Entries of an activation's table: steps of an eighth of an output byte or less."""
TANH_LIMIT = 3.2
"""Beyond it, tanh rounds to 1 in 8 bits."""


def quantize(
    model: LeNet5, ranges: dict[str, tuple[float, float]]
) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
    """Return the constants of the C code by their name, and the table offset of each layer.

    The constants of a layer `c1` are `c1_weights` int8 (shape of the layer's), `c1_bias`
    (outputs,) int32 in units of a product, `c1_factor` (outputs,) int32, which turns a sum into
    an index of `c1_table` (TABLE_SIZE,) uint8, with SHIFT fractional bits. The offset is added to
    that product, so that the table's first entry has index 0. With tanh and relu all layers share
    `c1_table`: tanh has one range, and relu gives the same bytes for every range. The last layer
    has instead of factor and table `output_step` (outputs,) float32, the logit that 1 of a sum
    stands for.

    Args:
        model: On the CPU.
        ranges: As `find_ranges` returns them.

    Raises:
        ExportError: A factor or bias does not fit into its bits: the weights are too large.
    """
    constants: dict[str, NDArray[Any]] = {}
    offsets = {}
    config = model.config()
    low = float(config["background"])  # what byte 0 of the layer's input stands for
    step = (float(config["ink"]) - low) / 255
    for name, layer in layers_of(model).items():
        weights, bias, sum_step = _quantize_layer(layer, low, step)
        constants[f"{name}_weights"], constants[f"{name}_bias"] = weights, bias
        if name == "output":
            constants["output_step"] = sum_step.astype(np.float32)
            break
        first, last = ranges[name]
        per_entry = (last - first) / TABLE_SIZE
        factor = np.rint(sum_step / per_entry * 2**SHIFT)
        offsets[name] = int(np.rint(-first / per_entry * 2**SHIFT))
        if np.abs(factor).max() >= 2**31 or abs(offsets[name]) >= 2**62:
            raise ExportError(f"{name}: its weights are too large for 8 bits; export float C code")
        sums = first + (np.arange(TABLE_SIZE) + 0.5) * per_entry
        outputs = ACTIVATIONS[model.activation]()(torch.from_numpy(sums)).numpy()
        low, step = outputs.min(), max(float(np.ptp(outputs)) / 255, 1e-12)
        constants[f"{name}_factor"] = factor.astype(np.int32)
        if name == "c1" or model.activation == "silu":
            constants[f"{name}_table"] = np.rint((outputs - low) / step).astype(np.uint8)
    return constants, offsets


def _quantize_layer(
    layer: nn.Conv2d | nn.Linear, low: float, step: float
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float64]]:
    """Return a layer's int8 weights, int32 bias and the value of 1 of a sum, for each output.

    Args:
        layer: With bias.
        low: Value that byte 0 of its input stands for.
        step: Value of 1 of a byte of its input.
    """
    assert layer.bias is not None
    weights = layer.weight.detach().double().numpy()
    flat = weights.reshape(len(weights), -1)
    largest = np.abs(flat).max(axis=1)
    unit = np.where(largest > 0, largest, 1.0) / 127
    rounded = np.rint(flat / unit[:, None])
    sum_step = unit * (step or 1e-12)
    bias = (layer.bias.detach().double().numpy() + unit * low * rounded.sum(axis=1)) / sum_step
    if np.abs(bias).max() >= 2**30:
        raise ExportError("a bias is too large beside its weights for 8 bits; export float C code")
    weights = rounded.astype(np.int8).reshape(weights.shape)
    return weights, np.rint(bias).astype(np.int32), sum_step
