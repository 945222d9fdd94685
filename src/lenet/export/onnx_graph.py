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
    """Write `path`: input `x` (batch, 1, 28, 28); logits, probabilities and labels; any batch."""
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
    """Write a graph with `add_outputs`, facts as its metadata, and compare it with its source."""
    import onnxruntime

    add_outputs(graph, source.card.temperature, has_garbage=source.card.has_garbage)

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


def add_outputs(model: "onnx.ModelProto", temperature: float, *, has_garbage: bool) -> None:
    """Add the outputs that `lenet serve` gives beside logits: probabilities and labels.

    Args:
        model: With the output `logits` (batch, classes).
        temperature: Logits are divided by it before the softmax.
        has_garbage: A logit of 0 for what is no digit takes part in the softmax.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    shape = graph.output[0].type.tensor_type.shape.dim
    batch, num_classes = shape[0].dim_param, shape[1].dim_value
    graph.initializer.append(
        helper.make_tensor("temperature", TensorProto.FLOAT, [], [temperature])
    )
    graph.node.append(helper.make_node("Div", ["logits", "temperature"], ["scaled"]))
    if has_garbage:
        for name, values in (
            ("one_more", [0, 0, 0, 1]), ("first", [0]), ("end", [num_classes]), ("axis", [1])
        ):  # fmt: skip
            tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
            graph.initializer.append(tensor)
        graph.node.extend(
            [
                helper.make_node("Pad", ["scaled", "one_more"], ["padded"]),
                helper.make_node("Softmax", ["padded"], ["all"], axis=1),
                helper.make_node("Slice", ["all", "first", "end", "axis"], ["probabilities"]),
            ]
        )
    else:
        graph.node.append(helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1))
    graph.node.append(helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0))
    for name, kind, dims in (
        ("probabilities", TensorProto.FLOAT, [batch, num_classes]),
        ("labels", TensorProto.INT64, [batch]),
    ):
        graph.output.append(helper.make_tensor_value_info(name, kind, dims))


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
