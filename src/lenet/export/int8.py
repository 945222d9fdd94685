"""A statically quantized ONNX file: weights and activations in 8 bits.

Weights have a scale for each output channel, activations one for each tensor, found on training
images. All are unsigned: on processors without VNNI, ONNX Runtime's products of unsigned
activations with signed weights saturate in 16 bits, and labels change. docs/decisions.md has what
was tried.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lenet.data.digits import to_input
from lenet.export.artifact import Artifact, Settings
from lenet.export.calibration import calibration_images, find_ranges, useful_range
from lenet.export.onnx_graph import annotate, clean, export_network, open_session, save
from lenet.export.source import Source
from lenet.models import LeNet5

BATCH_SIZE = 100
QUANTIZED = ("Conv", "Gemm")
TANH_LIMIT = 2.5
"""Sums are quantized before tanh: finer steps are worth more than what lies beyond."""


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write `path`; its input and output are those of the float file."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    images = calibration_images(source.load_training())
    plain = path.with_suffix(".float.onnx")
    try:
        export_network(source.model, source.card.model, plain)
        with _quiet():
            quantize_static(
                plain,
                path,
                _Reader(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QUInt8,
                op_types_to_quantize=list(QUANTIZED),
                extra_options={
                    "WeightSymmetric": True,
                    # F6's sums go into the squashing function and the logits out as they are.
                    "OpTypesToExcludeOutputQuantization": ["Gemm"],
                    "TensorQuantOverrides": narrow(source, plain, images),
                },
            )
    finally:
        plain.unlink(missing_ok=True)
    model = onnx.load(path)
    clean(model, source.card.model)
    save(model, path)
    return Artifact(
        open=lambda: open_session(path),
        annotate=lambda facts: annotate(path, facts),
        quantized=True,
        details={
            "opset": max(item.version for item in model.opset_import if not item.domain),
            "quantization": "static, QDQ, uint8 weights per channel, uint8 activations per tensor",
            "calibration": f"{len(images)} training images, least and largest value",
        },
    )


def narrow(source: Source, plain: Path, images: Tensor) -> dict[str, Any]:
    """Return the quantizer's ranges of C1's, C3's and C5's sums: where squashing is not flat.

    Empty for other networks than LeNet-5: the least and largest value decide.
    """
    import onnx

    if not isinstance(source.model, LeNet5):
        return {}
    ranges = find_ranges(source.model, images)
    sums = [n.output[0] for n in onnx.load(plain).graph.node if n.op_type == "Conv"]
    found = {}
    for tensor, name in zip(sums, ("c1", "c3", "c5"), strict=True):
        low, high = useful_range(source.model.activation, *ranges[name], TANH_LIMIT)
        found[tensor] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
    return found


class _Reader:
    """Feeds the quantizer, which asks until there is None."""

    def __init__(self, images: Tensor) -> None:
        parts = range(0, len(images), BATCH_SIZE)
        self._batches = iter([images[start : start + BATCH_SIZE] for start in parts])

    def get_next(self) -> dict[str, Any] | None:
        images = next(self._batches, None)
        return None if images is None else {"x": to_input(images).numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer's advice to optimize the graph first: there is nothing to fuse."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
