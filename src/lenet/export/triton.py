"""A model repository for NVIDIA's Triton Inference Server: the ONNX file and its configuration."""

import json
from pathlib import Path

from lenet.export import onnx_graph
from lenet.export.artifact import Artifact, Settings
from lenet.export.c_constants import quoted
from lenet.export.source import Source

MAX_BATCH_SIZE = 1024
QUEUE_DELAY_US = 500
"""How long a request may wait for others: about what a batch of this network takes."""
LABELS_FILE = "labels.txt"

CONFIG = """\
# Pixels in [0, 1], 1 = ink; Triton adds the batch dimension in front.
name: {name}
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
    label_filename: "{labels}"
  }},
  {{
    name: "labels"
    data_type: TYPE_INT64
    dims: [ 1 ]
    reshape: {{ shape: [ ] }}
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: {delay}
}}
"""


def add_outputs(path: Path, temperature: float) -> None:
    """Add the outputs that `lenet serve` gives beside logits: probabilities and labels.

    Args:
        path: An ONNX file with the output `logits` (batch, classes).
        temperature: Logits are divided by it before the softmax.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = (model := onnx.load(path)).graph
    logits = graph.output[0].type.tensor_type.shape.dim
    batch, num_classes = logits[0].dim_param, logits[1].dim_value
    graph.initializer.append(
        helper.make_tensor("temperature", TensorProto.FLOAT, [], [temperature])
    )
    graph.node.extend(
        [
            helper.make_node("Div", ["logits", "temperature"], ["scaled"]),
            helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0),
        ]
    )
    float_type, int_type = TensorProto.FLOAT, TensorProto.INT64
    graph.output.extend(
        [
            helper.make_tensor_value_info("probabilities", float_type, [batch, num_classes]),
            helper.make_tensor_value_info("labels", int_type, [batch]),
        ]
    )
    onnx_graph.save(model, path)


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write the repository `path`, with one model in its first version."""
    name = source.card.model
    model = path / name / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    artifact = onnx_graph.write(source, model, settings)
    add_outputs(model, source.card.temperature)
    (path / name / "config.pbtxt").write_text(
        CONFIG.format(
            name=quoted(name),
            max_batch_size=MAX_BATCH_SIZE,
            num_classes=source.model.num_classes,
            labels=LABELS_FILE,
            delay=QUEUE_DELAY_US,
        ),
        encoding="ascii",
    )
    # A line for each class; one that holds a line end of its own is written as JSON.
    lines = (c if c.isprintable() else json.dumps(c) for c in source.card.classes)
    (path / name / LABELS_FILE).write_text("".join(f"{c}\n" for c in lines), encoding="utf-8")
    return Artifact(
        open=artifact.open,
        annotate=artifact.annotate,
        details={**artifact.details, "max_batch_size": MAX_BATCH_SIZE},
    )
