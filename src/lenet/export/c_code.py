"""A `.c` and a `.h` file: the network as C99 without allocation, for a microcontroller."""

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet import __version__
from lenet.errors import ExportError
from lenet.export.artifact import Artifact, Settings
from lenet.export.c_compiler import compile_library
from lenet.export.c_constants import Constants, comment_text, float_text, quoted
from lenet.export.c_int8 import SHIFT, TABLE_SIZE, quantize
from lenet.export.calibration import LAYERS, calibration_images, find_ranges, layers_of
from lenet.export.parity import Predict
from lenet.export.source import Source
from lenet.models import LeNet5

PIXELS = 28 * 28
CELLS = 6 * 14 * 14 + 16 * 5 * 5 + 120 + 84
"""Values that the layers leave for the next one."""
FIELD_BYTES = 32 * 32


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write `path` and the header of its name.

    Raises:
        ExportError: The network is none that the code is made for, or there is no C compiler.
    """
    _check(source)
    code = _Code(source, path, settings.c_type)
    code.write(None)
    details: dict[str, Any] = {
        "c_type": settings.c_type,
        "flash_bytes": code.constants.num_bytes,
        "ram_bytes": code.scratch_bytes,
    }
    if settings.c_type == "int8":
        details["calibration"] = code.calibration
    return Artifact(
        open=code.open, annotate=code.write, quantized=settings.c_type == "int8", details=details
    )


def _check(source: Source) -> None:
    card = source.card
    if card.model != "lenet5":
        raise ExportError(f"`model` (={card.model!r}): C code is written for 'lenet5' alone")
    if source.model.resize != "pad":
        raise ExportError(
            f"`resize` (={source.model.resize!r}): C code is written for 'pad' alone; "
            "`lenet train --resize pad` trains such a model"
        )
    if source.model.in_channels != 1:
        raise ExportError(
            f"`in_channels` (={source.model.in_channels}): C code is written for 1 alone"
        )


class _Code:
    """The text of both files, which is written twice: to be run, and with what that showed."""

    def __init__(self, source: Source, path: Path, c_type: str) -> None:
        self._source = source
        self._path = path
        self._c_type = c_type
        self.prefix = identifier(path.stem)
        self.constants = Constants()
        self.calibration = ""
        self._tables: dict[str, str] = {}
        self.scratch_bytes = FIELD_BYTES + CELLS * (1 if c_type == "int8" else 4)
        if c_type == "int8":
            self._add_integers()
        else:
            self._add_floats()

    def _add_floats(self) -> None:
        model = self._source.model
        assert isinstance(model, LeNet5)  # see _check()
        config = model.config()
        background, ink = float(config["background"]), float(config["ink"])
        for name, layer in layers_of(model).items():
            assert layer.bias is not None
            weights = layer.weight.detach().double().numpy()
            bias = layer.bias.detach().double().numpy()
            if name == "c1":
                # The network's own scaling of the pixels, and the bytes' to [0, 1].
                bias = bias + background * weights.sum(axis=(1, 2, 3))
                weights = weights[:, 0] * (ink - background) / 255
            if name == "c5":
                weights = weights.reshape(len(weights), -1)
            self.constants.add(f"{name}_weights", weights.astype(np.float32))
            self.constants.add(f"{name}_bias", bias.astype(np.float32))

    def _add_integers(self) -> None:
        images = calibration_images(self._source.load_training())
        self.calibration = f"{len(images)} training images, least and largest value"
        model = self._source.model
        assert isinstance(model, LeNet5)  # see _check()
        layers = quantize(model, find_ranges(model, images))
        named: dict[bytes, str] = {}
        for name in LAYERS:
            layer = layers[name]
            weights = layer.weights
            if name == "c1":
                weights = weights[:, 0]
            if name == "c5":
                weights = weights.reshape(len(weights), -1)
            self.constants.add(f"{name}_weights", weights)
            self.constants.add(f"{name}_bias", layer.bias)
            if layer.table is None or layer.factor is None:
                self.constants.add(f"{name}_step", layer.step.astype(np.float32))
                continue
            self.constants.add(f"{name}_factor", layer.factor)
            self.constants.define(f"{name.upper()}_OFFSET", f"INT64_C({layer.offset})")
            content = layer.table.tobytes()
            if content not in named:  # tanh has one table for all layers
                named[content] = f"squash_{name}"
                self.constants.add(named[content], layer.table)
            self._tables[name] = named[content]

    def write(self, facts: Mapping[str, Any] | None) -> None:
        """Write both files; with facts, what was measured stands in them."""
        source, card = self._source, self._source.card
        image = source.scored.images[:1]
        expected = source.logits[0]
        if facts is not None and self._c_type == "int8":
            # Integers give the same on every machine, so they are held to what they gave here.
            expected = self.open()(image)[0]
        vector = Constants()
        vector.add("selftest_pixels", image.numpy().reshape(PIXELS))
        vector.add("selftest_logits", expected.numpy())
        scale = max(1.0, float(source.logits.abs().max()))
        values = {
            "version": __version__,
            "title": "LeNet-5",
            "c_type": self._c_type,
            "origin": comment_text(
                f"{card.dataset}, recipe {card.recipe_name}, seed {card.seed}, "
                f"model file of SHA-256 {source.sha256[:16]}..."
            ),
            "parity": _parity_text(facts),
            "prefix": self.prefix,
            "macro": self.prefix.upper(),
            "header": self._path.with_suffix(".h").name,
            "cell": "uint8_t" if self._c_type == "int8" else "float",
            "num_classes": source.model.num_classes,
            "names": [quoted(name) for name in card.classes],
            "activation": source.model.activation,
            "pooling": source.model.pooling,
            "constants": self.constants.text(),
            "tables": self._tables,
            "shift": SHIFT,
            "table_size": TABLE_SIZE,
            "flash_bytes": self.constants.num_bytes,
            "scratch_bytes": self.scratch_bytes,
            "vector": vector.text(),
            "vector_label": int(expected.argmax()),
            "vector_tolerance": float_text(1e-4 * scale),
        }
        code = _render(f"{self._c_type}.c.j2", values)
        self._path.write_text(code, encoding="ascii", newline="\n")
        header = _render("model.h.j2", values)
        self._path.with_suffix(".h").write_text(header, encoding="ascii", newline="\n")

    def open(self) -> Predict:
        """Compile what is on the disk."""
        run = compile_library(self._path)[f"{self.prefix}_run"]
        scratch = (ctypes.c_uint32 * (self.scratch_bytes // 4))()
        num_classes = self._source.model.num_classes

        def predict(images: Tensor) -> Tensor:
            images = images.contiguous()
            logits = torch.empty(len(images), num_classes)
            for i in range(len(images)):
                label = run(
                    ctypes.c_void_p(images.data_ptr() + i * PIXELS),
                    ctypes.c_void_p(logits.data_ptr() + i * num_classes * 4),
                    scratch,
                )
                if label != int(logits[i].argmax()):
                    raise ExportError(f"image {i}: the code's label is not its largest logit's")
            return logits

        return predict


def _parity_text(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return "(not yet measured)"
    parity = facts["parity"]
    return (
        f"{parity['num_images']:,} test images: labels that differ: "
        f"{parity['num_labels_differ']}; logits by up to {parity['largest_logit_difference']:.2g}."
    )


def identifier(stem: str) -> str:
    """Return a C identifier for a file name's stem.

    Example:
        >>> identifier("my-net.v2")
        'my_net_v2'
        >>> identifier("5")
        'lenet_5'
    """
    found = re.sub(r"\W", "_", stem, flags=re.ASCII).lower()
    return found if found[:1].isalpha() else f"lenet_{found}"


def _render(name: str, values: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lenet", "export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)
