"""The model that is served, computed by the fastest engine available."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import CheckpointError, LeNetError, install_hint
from lenet.reading.inference import read_network

ENGINES = ("auto", "native", "onnxruntime", "numpy", "torch")

Floats = NDArray[Any]
Logits = Callable[[Floats], Floats]
"""Of images (N, 28, 28) float32 in [0, 1], 1 = ink: (N, num_classes) float32."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Classifier:
    """A network and the engine that computes it."""

    model: str
    """Key of `MODELS`."""
    classes: tuple[str, ...]
    engine: str
    logits: Logits
    """Called by one thread at a time."""
    temperature: float
    """What logits are divided by before the softmax."""
    has_garbage: bool
    """The model was trained to tell what is no digit, whose logit is 0."""
    path: Path
    """The model file."""

    def probabilities(self, logits: Floats) -> Floats:
        """Return (N, num_classes) float32; what a row lacks to 1 is that of no digit."""
        scaled = logits / np.float32(self.temperature)
        if self.has_garbage:
            scaled = np.pad(scaled, ((0, 0), (0, 1)))
        likely = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        result: Floats = likely / likely.sum(axis=1, keepdims=True)
        return result[:, : logits.shape[1]]


def load_classifier(path: Path, *, engine: str = "auto") -> Classifier:
    """Read a model and choose its engine.

    Args:
        path: Model file or run directory.
        engine: One of `ENGINES`; "auto" takes the first of compiled kernels, ONNX Runtime, numpy
            and torch that works here.

    Raises:
        CheckpointError: `path` is not a model.
        LeNetError: The named engine is not available.
    """
    if engine not in ENGINES:
        raise LeNetError(f"`engine` (={engine!r}) must be one of: {', '.join(ENGINES)}")
    import torch

    from lenet.models.files import find_model, load_model

    torch.set_num_threads(1)
    path = find_model(path)
    model, card = load_model(path)
    if model.in_channels != 1:
        raise CheckpointError(f"{path}: takes {model.in_channels} channels; digits are grey")
    makers: dict[str, Callable[[], Logits]] = {
        "native": lambda: _native(model),
        "onnxruntime": lambda: _onnxruntime(model, card.model),
        "numpy": lambda: _numpy(path),
        "torch": lambda: _torch(model),
    }
    for name in makers if engine == "auto" else (engine,):
        try:
            return Classifier(
                model=card.model,
                classes=tuple(card.classes),
                engine=name,
                logits=makers[name](),
                temperature=card.temperature,
                has_garbage=card.has_garbage,
                path=path,
            )
        except LeNetError as error:
            if engine != "auto":
                raise
            logger.warning("not served by %s: %s", name, error)
    raise AssertionError("torch computes every model")


def _native(model: Any) -> Logits:
    import torch

    from lenet.native.build import NativeUnavailableError
    from lenet.native.engine import load_engine

    try:
        compute = load_engine(model).logits
    except NativeUnavailableError as error:
        raise LeNetError(f"the native engine can't be had: {error}") from None
    return lambda x: compute(torch.from_numpy(x).view(-1, 1, 28, 28)).numpy()


def _onnxruntime(model: Any, name: str) -> Logits:
    try:
        import onnxruntime

        from lenet.export.onnx_graph import export_network

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            export_network(model, name, file)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(
                file.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
    except ImportError as error:
        raise LeNetError(f"needs {error.name}: {install_hint('onnx')}") from None
    return lambda x: session.run(["logits"], {"x": x.reshape(-1, 1, 28, 28)})[0]


def _numpy(path: Path) -> Logits:
    found = read_network(path)
    if found is None:
        raise LeNetError("numpy computes LeNet-5 with ten outputs alone")
    network, _ = found

    def logits(x: Floats) -> Floats:
        fields = np.pad(x, ((0, 0), (2, 2), (2, 2)))
        parts = [network.sweep(fields[i : i + 128])[:, 0] for i in range(0, len(fields), 128)]
        return np.concatenate(parts)

    return logits


def _torch(model: Any) -> Logits:
    import torch

    def logits(x: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = model(torch.from_numpy(x).view(-1, 1, 28, 28)).numpy()
        return found

    return logits
