"""A model repository for NVIDIA's Triton Inference Server: the ONNX file and its configuration."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lenet.export.onnx_graph import export_network, save_graph
from lenet.export.parity import Measured, Settings, Source

if TYPE_CHECKING:
    import onnx

MAX_BATCH_SIZE = 1024

# The queue delay is about what a batch of this network takes.
CONFIG = """\
# Pixels in [0, 1], 1 = ink; Triton adds the batch dimension in front.
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {max_batch_size}
input [
  {{
    name: "x"
    data_type: TYPE_FP32
    dims: [ 1, 28, 28 ]
  }}
]
output [
  {{
    name: "logits"
    data_type: TYPE_FP32
    dims: [ {num_classes} ]
  }},
  {{
    name: "probabilities"
    data_type: TYPE_FP32
    dims: [ {num_classes} ]
    label_filename: "labels.txt"
  }},
  {{
    name: "labels"
    data_type: TYPE_INT64
    dims: [ 1 ]
    reshape: {{ shape: [ ] }}
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: 500
}}
"""


def write(source: Source, path: Path, settings: Settings) -> Measured:
    """Write the repository `path`, with one model in its first version."""
    name = source.card.model
    folder = path / name
    (folder / "1").mkdir(parents=True)
    config = CONFIG.format(
        name=name, max_batch_size=MAX_BATCH_SIZE, num_classes=source.model.num_classes
    )
    (folder / "config.pbtxt").write_text(config, encoding="ascii")
    # One line for each class; a class that holds a line end is written as JSON.
    lines = (c if c.isprintable() else json.dumps(c) for c in source.card.classes)
    (folder / "labels.txt").write_text("".join(f"{c}\n" for c in lines), encoding="utf-8")
    file = folder / "1" / "model.onnx"
    graph = export_network(source.model, name, file, opset=settings.opset)
    add_outputs(graph, source.card.temperature, has_garbage=source.card.has_garbage)
    details = {"opset": settings.opset, "max_batch_size": MAX_BATCH_SIZE}
    return save_graph(source, graph, file, details=details)


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
