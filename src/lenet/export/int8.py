"""A statically quantized ONNX file: weights and activations in 8 bits.

Weights have a scale for each output channel, activations one for each tensor, found on training
images. All are unsigned: on processors without VNNI, ONNX Runtime's products of unsigned
activations with signed weights saturate in 16 bits, and labels change. docs/decisions.md has what
was tried.
"""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lenet.data.digits import to_input
from lenet.export.calibration import calibration_images, find_ranges
from lenet.export.onnx_graph import export_network, remove_traces, save_graph
from lenet.export.parity import Measured, Settings, Source
from lenet.models import LeNet5

if TYPE_CHECKING:
    import onnx

BATCH_SIZE = 100
TANH_LIMIT = 2.5
"""Sums are quantized before tanh: finer steps are worth more than what lies beyond."""


def write(source: Source, path: Path, settings: Settings) -> Measured:
    """Write `path`; its input and output are those of the float file."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    images = calibration_images(source.load_training())
    starts = range(0, len(images), BATCH_SIZE)
    batches = ({"x": to_input(images[i : i + BATCH_SIZE]).numpy()} for i in starts)
    graph = export_network(source.model, source.card.model, path)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice to optimize the graph, which has nothing to fuse
    try:
        quantize_static(
            graph,
            path,
            SimpleNamespace(get_next=lambda: next(batches, None)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv", "Gemm"],
            extra_options={
                "WeightSymmetric": True,
                # F6's sums go into the activation and the logits out as they are.
                "OpTypesToExcludeOutputQuantization": ["Gemm"],
                "TensorQuantOverrides": sum_ranges(source, graph, images),
            },
        )
    finally:
        logging.disable(level)
    graph = onnx.load(path)
    remove_traces(graph, source.card.model)
    details = {
        "opset": max(item.version for item in graph.opset_import if not item.domain),
        "quantization": "static, QDQ, uint8 weights per channel, uint8 activations per tensor",
        "calibration": f"{len(images)} training images, least and largest value",
    }
    return save_graph(source, graph, path, details=details, min_agreement=settings.min_agreement)


def sum_ranges(source: Source, graph: "onnx.ModelProto", images: Tensor) -> dict[str, Any]:
    """Return the quantizer's ranges of the sums of C1, C3 and C5: where the activation is not flat.

    Empty for other networks than LeNet-5, whose least and largest value are taken.
    """
    if not isinstance(source.model, LeNet5):
        return {}
    ranges = find_ranges(source.model, images, TANH_LIMIT)
    tensors = [node.output[0] for node in graph.graph.node if node.op_type == "Conv"]
    overrides = {}
    for tensor, name in zip(tensors, ("c1", "c3", "c5"), strict=True):
        low, high = ranges[name]
        overrides[tensor] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
    return overrides
