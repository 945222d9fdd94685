"""What scales of 8 bits are found on: training images, and the sums that they cause."""

import torch
from torch import Tensor, nn

from lenet.data.digits import Digits, order, to_input
from lenet.models import LeNet5

NUM_CALIBRATION = 5000
BATCH_SIZE = 500
LAYERS = ("c1", "c3", "c5", "f6", "output")


def calibration_images(training: Digits) -> Tensor:
    """Return the training images that scales are found on, the same each time.

    Returns:
        (at most NUM_CALIBRATION, 28, 28) uint8.
    """
    return training.images[order(len(training), seed=0, epoch=0)[:NUM_CALIBRATION]]


@torch.inference_mode()
def find_ranges(model: LeNet5, images: Tensor) -> dict[str, tuple[float, float]]:
    """Return the least and largest sum (before squashing) of each layer on these images.

    Args:
        model: On the CPU.
        images: (N, 28, 28) uint8, at least one.
    """
    layers = layers_of(model)
    names: dict[nn.Module, str] = {layer: name for name, layer in layers.items()}
    found = dict.fromkeys(layers, (float("inf"), float("-inf")))

    def note(layer: nn.Module, _: object, sums: Tensor) -> None:
        name = names[layer]
        low, high = found[name]
        found[name] = min(low, float(sums.min())), max(high, float(sums.max()))

    hooks = [layer.register_forward_hook(note) for layer in layers.values()]
    try:
        for start in range(0, len(images), BATCH_SIZE):
            model(to_input(images[start : start + BATCH_SIZE]))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def layers_of(model: LeNet5) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the layers with weights by their name."""
    parts = (*model.feature_extractor, *model.classifier)
    found = [part for part in parts if isinstance(part, nn.Conv2d | nn.Linear)]
    return dict(zip(LAYERS, found, strict=True))


def useful_range(
    activation: str, low: float, high: float, tanh_limit: float
) -> tuple[float, float]:
    """Return the sums that must be told apart; beyond them the output is that at the end.

    Args:
        activation: Of `lenet.models.lenet5.ACTIVATIONS`.
        low: Least sum on the calibration images.
        high: Largest.
        tanh_limit: Where tanh is taken for flat. The same for all layers, so that they can share
            a table.
    """
    if activation == "tanh":
        return -tanh_limit, tanh_limit
    margin = 0.02 * (high - low) + 1e-6
    floor = 0.0 if activation == "relu" else max(low - margin, -8.0)  # silu(-8) = -0.003
    return floor, max(high + margin, floor + 1e-6)
