"""A model repository for NVIDIA's Triton Inference Server: the ONNX file and its configuration."""

import json
from pathlib import Path

from lenet.export.onnx_graph import export_network, save_graph
from lenet.export.parity import Measured, Settings, Source

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
    details = {"opset": settings.opset, "max_batch_size": MAX_BATCH_SIZE}
    return save_graph(source, graph, file, details=details)
