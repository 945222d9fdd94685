"""LeNet-5 forward with numpy alone, for answers that do not wait for torch to load.

The same network as `lenet.models.LeNet5`, which is its oracle. Fields may be wider than a digit:
every layer up to F6 is a convolution, so the network sweeps over them (section VII of the paper).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import CheckpointError
from lenet.schema import ModelCard, decode_card

Floats = NDArray[Any]

CHUNK = 128
"""Images at a time: 128 need some 20 MB."""
SHAPES = {
    "feature_extractor.0.weight": (6, 1, 5, 5),
    "feature_extractor.0.bias": (6,),
    "feature_extractor.3.weight": (16, 6, 5, 5),
    "feature_extractor.3.bias": (16,),
    "feature_extractor.6.weight": (120, 16, 5, 5),
    "feature_extractor.6.bias": (120,),
    "classifier.0.weight": (84, 120),
    "classifier.0.bias": (84,),
    "classifier.2.weight": (10, 84),
    "classifier.2.bias": (10,),
    "background": (),
    "ink": (),
}


def _silu(x: Floats) -> Floats:
    result: Floats = x / (1 + np.exp(-np.clip(x, -80, 80)))
    return result


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


SQUASHES: dict[str, Callable[[Floats], Floats]] = {"tanh": np.tanh, "relu": _relu, "silu": _silu}


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A LeNet-5 with ten outputs, ready to use."""

    squash: Callable[[Floats], Floats]
    pool_max: bool
    background: float
    ink: float
    kernels: tuple[Floats, ...]
    """Weights of C1, C3, C5 as (inputs, outputs), F6 and output transposed."""
    biases: tuple[Floats, ...]

    def logits(self, images: NDArray[np.uint8]) -> Floats:
        """Return the logits (N, 10) of images (N, 28, 28) uint8, 0 = background, 255 = ink."""
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
        parts = [
            self.sweep(padded[i : i + CHUNK].astype(np.float32) / 255)[:, 0]
            for i in range(0, len(padded), CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 10), np.float32)

    def sweep(self, fields: Floats) -> Floats:
        """Return the logits of the 32x32 window at every second column of wide fields.

        Args:
            fields: (N, 32, W) float32 in [0, 1], W at least 32.

        Returns:
            (N, (W - 32) // 2 + 1, 10), as `lenet.models.LeNet5.sweep`.
        """
        x = (self.background + fields * (self.ink - self.background))[..., None]
        x = self._pool(self._convolve(x.astype(np.float32), 0), step=2)
        # S4 moves by one column, so C5 takes every second column of it.
        x = self._pool(self._convolve(x, 1), step=1)
        x = self._convolve(x, 2, step=2)[:, 0]
        x = self.squash(x @ self.kernels[3] + self.biases[3])
        return x @ self.kernels[4] + self.biases[4]

    def _convolve(self, x: Floats, layer: int, step: int = 1) -> Floats:
        """Convolve with 5x5 kernels whose columns lie `step` apart."""
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 4 * step + 1), axis=(1, 2))
        windows = windows[..., ::step]
        num, rows, columns = windows.shape[:3]
        flat = windows.reshape(num * rows * columns, -1)  # (positions, inputs * 25)
        y = flat @ self.kernels[layer] + self.biases[layer]
        return self.squash(y.reshape(num, rows, columns, -1))

    def _pool(self, x: Floats, step: int) -> Floats:
        """Pool each 2x2 window, moved by two rows and `step` columns."""
        x = x[:, : x.shape[1] // 2 * 2]
        last = x.shape[2] - 1
        corners = [
            x[:, row::2, column : last + column : step] for row in (0, 1) for column in (0, 1)
        ]
        if self.pool_max:
            pooled: Floats = np.maximum(np.maximum(*corners[:2]), np.maximum(*corners[2:]))
        else:
            pooled = (corners[0] + corners[1] + corners[2] + corners[3]) / 4
        return pooled


def read_network(path: Path) -> tuple[Network, ModelCard] | None:
    """Read a model file, if it holds a LeNet-5 of the kind that is computed here.

    Returns:
        The network and what the file says about itself; None for any other model, for a damaged
        file and for none: `lenet.models.files.load_model` reads the first and explains the rest.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            card = decode_card((file.metadata() or {})["lenet"], path)
            if set(file.keys()) != set(SHAPES):
                return None
            tensors = {name: file.get_tensor(name) for name in SHAPES}
        config = card.config
        is_known = (
            card.model == "lenet5"
            and config["resize"] == "pad"
            and all(tensors[name].shape == shape for name, shape in SHAPES.items())
            and all(tensor.dtype == np.float32 for tensor in tensors.values())
            and all(bool(np.isfinite(tensor).all()) for tensor in tensors.values())
        )
    except (SafetensorError, OSError, KeyError, CheckpointError):
        return None
    if not is_known:
        return None
    names = [name.removesuffix(".weight") for name in SHAPES if name.endswith(".weight")]
    network = Network(
        squash=SQUASHES[str(config["activation"])],
        pool_max=config["pooling"] == "max",
        background=float(tensors["background"]),
        ink=float(tensors["ink"]),
        kernels=tuple(
            np.ascontiguousarray(tensors[f"{n}.weight"].reshape(len(tensors[f"{n}.bias"]), -1).T)
            for n in names
        ),
        biases=tuple(tensors[f"{n}.bias"] for n in names),
    )
    return network, card
