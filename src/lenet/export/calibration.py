"""The range of each layer's sums on training images, from which 8-bit scales are made."""

import torch
from torch import Tensor, nn

from lenet.data.digits import Digits, order, to_input
from lenet.models import LeNet5

NUM_CALIBRATION = 5000
LAYERS = ("c1", "c3", "c5", "f6", "output")


def calibration_images(training: Digits) -> Tensor:
    """Return training images to calibrate on, the same each time.

    Returns:
        (at most NUM_CALIBRATION, 28, 28) uint8.
    """
    return training.images[order(len(training), seed=0, epoch=0)[:NUM_CALIBRATION]]


def layers_of(model: LeNet5) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the layers with weights by their name in LAYERS."""
    modules = (*model.feature_extractor, *model.classifier)
    layers = [module for module in modules if isinstance(module, nn.Conv2d | nn.Linear)]
    return dict(zip(LAYERS, layers, strict=True))


@torch.inference_mode()
def find_ranges(model: LeNet5, images: Tensor, tanh_limit: float) -> dict[str, tuple[float, float]]:
    """Return the range of each layer's sums (before the activation) that 8 bits must cover.

    Beyond it the activation is taken for flat or, for relu and silu, does not occur.

    Args:
        model: On the CPU.
        images: (N, 28, 28) uint8, at least one.
        tanh_limit: Where tanh is taken for flat. The same for all layers, so that they can share
            a table.
    """
    if model.activation == "tanh":
        return dict.fromkeys(LAYERS, (-tanh_limit, tanh_limit))
    names = {layer: name for name, layer in layers_of(model).items()}
    ranges = {}
    x = model.prepare(to_input(images))
    for module in (*model.feature_extractor, nn.Flatten(), *model.classifier):
        x = module(x)
        if module in names:
            low, high = (float(value) for value in torch.aminmax(x))
            margin = 0.02 * (high - low) + 1e-6
            # silu(-8) = -0.003
            floor = 0.0 if model.activation == "relu" else max(low - margin, -8.0)
            ranges[names[module]] = floor, max(high + margin, floor + 1e-6)
    return ranges
