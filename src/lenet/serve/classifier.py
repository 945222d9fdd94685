"""The model that is served, in the fastest engine at hand."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import CheckpointError, LeNetError, install_hint
from lenet.reading.inference import read_network
from lenet.reading.reader import PRETRAINED

ENGINES = ("auto", "native", "onnxruntime", "torch", "numpy")

Floats = NDArray[Any]
Logits = Callable[[Floats], Floats]
"""Of images (N, 28, 28) float32 in [0, 1], 1 = ink: (N, num_classes) float32."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Classifier:
    """A network, what computes it, and what its outputs mean."""

    model: str
    """Key of `MODELS`."""
    classes: tuple[str, ...]
    engine: str
    """One of `ENGINES` but auto."""
    logits: Logits
    """For one thread at a time."""
    temperature: float
    """What logits are divided by to give honest probabilities."""
    file: bytes
    """The model file."""

    def probabilities(self, logits: Floats) -> Floats:
        """Return (N, num_classes) float32, each row a distribution."""
        scaled = logits / np.float32(self.temperature)
        likely = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        result: Floats = likely / likely.sum(axis=1, keepdims=True)
        return result


def load_classifier(path: Path | None = None, *, engine: str = "auto") -> Classifier:
    """Read a model and choose who computes it.

    Args:
        path: Model file or run directory; None for the model of the package.
        engine: One of `ENGINES`; "auto" takes compiled kernels, else ONNX Runtime, else numpy or,
            for a network it does not know, torch.

    Raises:
        CheckpointError: `path` is no model.
        LeNetError: The engine named can't be had.
    """
    if path is None:
        with as_file(files("lenet").joinpath("pretrained", PRETRAINED)) as found:
            return load_classifier(found, engine=engine)
    import torch

    from lenet.models.files import find_model, load_model

    torch.set_num_threads(1)
    path = find_model(path)
    model, card = load_model(path)
    if model.in_channels != 1:
        raise CheckpointError(f"{path}: takes {model.in_channels} channels; digits are grey")
    name, logits = _choose(path, model, engine)
    return Classifier(
        model=card.model,
        classes=tuple(card.classes),
        engine=name,
        logits=logits,
        temperature=card.temperature,
        file=path.read_bytes(),
    )


def _choose(path: Path, model: Any, engine: str) -> tuple[str, Logits]:
    if engine not in ENGINES:
        raise LeNetError(f"`engine` (={engine!r}) must be one of: {', '.join(ENGINES)}")
    makers: dict[str, Callable[[], Logits]] = {
        "native": lambda: _native(model),
        "onnxruntime": lambda: _onnxruntime(path),
        "numpy": lambda: _numpy(path),
        "torch": lambda: _torch(model),
    }
    if engine != "auto":
        return engine, makers[engine]()
    for name, make in makers.items():
        try:
            return name, make()
        except LeNetError as error:
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

    def logits(x: Floats) -> Floats:
        found: Floats = compute(torch.from_numpy(x).view(-1, 1, 28, 28)).numpy()
        return found

    return logits


def _onnxruntime(path: Path) -> Logits:
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if find_spec(n) is None]
    if missing:
        raise LeNetError(f"{', '.join(missing)} not installed: {install_hint('onnx')}")
    import onnxruntime

    from lenet.export.onnx_graph import export_network
    from lenet.models.files import load_model

    model, card = load_model(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export_network(model, card.model, file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    def logits(x: Floats) -> Floats:
        (found,) = session.run(["logits"], {"x": x.reshape(-1, 1, 28, 28)})
        return np.asarray(found)

    return logits


def _numpy(path: Path) -> Logits:
    found = read_network(path)
    if found is None:
        raise LeNetError("numpy computes LeNet-5 with ten outputs alone")
    network, _ = found

    def logits(x: Floats) -> Floats:
        fields = np.pad(x, ((0, 0), (2, 2), (2, 2)))
        parts = [network.sweep(fields[i : i + 128])[:, 0, 0] for i in range(0, len(fields), 128)]
        return np.concatenate(parts)

    return logits


def _torch(model: Any) -> Logits:
    import torch

    def logits(x: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = model(torch.from_numpy(x).view(-1, 1, 28, 28)).numpy()
        return found

    return logits
