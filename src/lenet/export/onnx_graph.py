"""An ONNX file with its preprocessing inside, for ONNX Runtime and whatever else reads ONNX."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lenet import __version__
from lenet.data.digits import to_input
from lenet.errors import ExportError
from lenet.export.artifact import Artifact, Settings, as_strings
from lenet.export.parity import Predict
from lenet.export.source import Source
from lenet.models import Network

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""The lowest that torch's exporter writes without converting down: the most readers."""


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write `path`: input `x` (batch, 1, 28, 28), output `logits`, any batch size."""
    export_network(source.model, source.card.model, path, opset=settings.opset)
    return Artifact(
        open=lambda: open_session(path),
        annotate=lambda facts: annotate(path, facts),
        details={"opset": settings.opset},
    )


def export_network(network: Network, name: str, path: Path, *, opset: int = OPSET) -> None:
    """Write a network's graph, checked, without a word on the machine that made it.

    Raises:
        ExportError: The network's operators can't be written in that opset.
    """
    import onnx
    from onnx import version_converter

    x = torch.zeros(2, 1, 28, 28)  # any batch but 1, which an exporter may take for a constant
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of packages that it could use
    try:
        with warnings.catch_warnings():
            # torch's own use of its own deprecated names.
            warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated", FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            torch.onnx.export(
                network,
                (x,),
                path,
                input_names=["x"],
                output_names=["logits"],
                dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    graph = onnx.load(path)
    if opset != OPSET:
        try:
            graph = version_converter.convert_version(graph, opset)
        except (RuntimeError, ValueError):
            raise ExportError(
                f"`opset` (={opset}): this network can't be written in it; {OPSET} can"
            ) from None
    clean(graph, name)
    save(graph, path)


def clean(model: "onnx.ModelProto", name: str) -> None:
    """Take out what the exporter noted of the code and folders that it ran in."""
    import onnx

    graph = model.graph
    parts = (graph.node, graph.input, graph.output, graph.value_info, graph.initializer)
    for notes in (model, graph, *(item for part in parts for item in part)):
        del notes.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    graph.name = name
    model.producer_name, model.producer_version = "lenet", __version__
    # The lowest that may hold these operators: older runtimes refuse a file by its version alone.
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)


def save(model: "onnx.ModelProto", path: Path) -> None:
    """Check a graph and write it; equal graphs are equal files."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def annotate(path: Path, facts: Mapping[str, Any]) -> None:
    """Put the facts into the file's metadata, one string each; what is no string as JSON."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    for key, value in as_strings(facts).items():
        model.metadata_props.add(key=key, value=value)
    save(model, path)


def open_session(path: Path) -> Predict:
    """Load a file into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"x": to_input(images).numpy()})
        return torch.from_numpy(np.asarray(logits))

    return predict
