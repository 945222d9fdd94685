"""An ONNX file with its preprocessing inside, for ONNX Runtime and other runtimes."""

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
from lenet.export.parity import Measured, Predict, Settings, Source, as_strings, save_and_compare
from lenet.models import Network

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""The lowest that torch's exporter writes without a conversion, for the most runtimes."""


def write(source: Source, path: Path, settings: Settings) -> Measured:
    """Write `path`: input `x` (batch, 1, 28, 28), output `logits`, any batch size."""
    graph = export_network(source.model, source.card.model, path, opset=settings.opset)
    return save_graph(source, graph, path, details={"opset": settings.opset})


def save_graph(
    source: Source,
    graph: "onnx.ModelProto",
    path: Path,
    *,
    details: dict[str, Any],
    min_agreement: float | None = None,
) -> Measured:
    """Write a graph, with the facts as its metadata, and compare its logits with the source's."""
    import onnxruntime

    def save(facts: Mapping[str, Any]) -> None:
        del graph.metadata_props[:]
        for key, value in as_strings(facts).items():
            graph.metadata_props.add(key=key, value=value)
        _write_file(graph, path)

    def load() -> Predict:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def predict(images: Tensor) -> Tensor:
            (logits,) = session.run(["logits"], {"x": to_input(images).numpy()})
            return torch.from_numpy(np.asarray(logits))

        return predict

    return save_and_compare(source, save, load, details=details, min_agreement=min_agreement)


def export_network(
    network: Network, name: str, path: Path, *, opset: int = OPSET
) -> "onnx.ModelProto":
    """Write a network's graph to a file, and return it.

    Raises:
        ExportError: The network's operators can't be written in that opset.
    """
    import onnx
    from onnx import version_converter

    x = torch.zeros(2, 1, 28, 28)  # an exporter may take a batch of 1 for a constant
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of optional packages
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
    remove_traces(graph, name)
    _write_file(graph, path)
    return graph


def remove_traces(model: "onnx.ModelProto", name: str) -> None:
    """Remove the exporter's notes about the code and folders of this machine."""
    import onnx

    graph = model.graph
    parts = (graph.node, graph.input, graph.output, graph.value_info, graph.initializer)
    for notes in (model, graph, *(item for part in parts for item in part)):
        del notes.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    graph.name = name
    model.producer_name, model.producer_version = "lenet", __version__
    # The lowest for these operators: older runtimes refuse a file by its IR version alone.
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)


def _write_file(graph: "onnx.ModelProto", path: Path) -> None:
    """Check a graph and write it; equal graphs give equal files."""
    import onnx

    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))
