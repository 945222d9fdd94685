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
    label_filename: "{labels}"
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: {delay}
}}
"""


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write the repository `path`, with one model in its first version."""
    name = source.card.model
    model = path / name / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    artifact = onnx_graph.write(source, model, settings)
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
