"""A `.c` and a `.h` file: the network as C99 without allocation, for a microcontroller."""

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lenet import __version__
from lenet.errors import ExportError
from lenet.export.c_int8 import SHIFT, TABLE_SIZE, TANH_LIMIT, quantize
from lenet.export.calibration import calibration_images, find_ranges, layers_of
from lenet.export.parity import Measured, Predict, Settings, Source, save_and_compare
from lenet.models import LeNet5

FIELD_BYTES = 32 * 32
CELLS = 6 * 14 * 14 + 16 * 5 * 5 + 120 + 84
"""Outputs of S2, S4, C5 and F6, which the scratch memory holds beside the field of pixels."""
COMPILER_FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def write(source: Source, path: Path, settings: Settings) -> Measured:
    """Write `path` and the header of its name.

    Raises:
        ExportError: The template can't compute this network, or there is no C compiler.
    """
    model, card = source.model, source.card
    if not isinstance(model, LeNet5):
        raise ExportError(f"`model` (={card.model!r}): C code is written for 'lenet5' alone")
    if model.resize != "pad":
        raise ExportError(
            f"`resize` (={model.resize!r}): C code is written for 'pad' alone; "
            "`lenet train --resize pad` trains such a model"
        )
    if model.in_channels != 1:
        raise ExportError(f"`in_channels` (={model.in_channels}): C code is written for 1 alone")

    is_int8 = settings.c_type == "int8"
    details: dict[str, Any] = {"c_type": settings.c_type}
    offsets: dict[str, int] = {}
    if is_int8:
        images = calibration_images(source.load_training())
        constants, offsets = quantize(model, find_ranges(model, images, TANH_LIMIT))
    else:
        constants = float_constants(model)
    details["flash_bytes"] = sum(values.nbytes for values in constants.values())
    details["ram_bytes"] = FIELD_BYTES + CELLS * (1 if is_int8 else 4)
    if is_int8:
        details["calibration"] = f"{len(images)} training images, least and largest value"
    constants["c1_weights"] = constants["c1_weights"][:, 0]  # (6, 5, 5)
    constants["c5_weights"] = constants["c5_weights"].reshape(120, 400)
    prefix = identifier(path.stem)
    values = {
        **details,
        "version": __version__,
        "origin": comment_text(
            f"{card.dataset}, recipe {card.recipe_name}, seed {card.seed}, "
            f"model file of SHA-256 {source.sha256[:16]}..."
        ),
        "prefix": prefix,
        "macro": prefix.upper(),
        "header": path.with_suffix(".h").name,
        "num_classes": model.num_classes,
        "names": [quoted(name) for name in card.classes],
        "activation": model.activation,
        "pooling": model.pooling,
        "constants": c_arrays(constants),
        "offsets": offsets,
        "shift": SHIFT,
        "table_size": TABLE_SIZE,
        "selftest_tolerance": literal(
            np.float32(1e-4 * max(1.0, float(source.logits.abs().max())))
        ),
    }

    def load() -> Predict:
        return load_code(path, prefix, details["ram_bytes"], model.num_classes)

    def save(facts: Mapping[str, Any]) -> None:
        pixels, logits, parity = source.test.images[0], source.logits[0], "(not yet measured)"
        if "parity" in facts:
            parity = (
                "{num_images:,} test images: labels that differ: {num_labels_differ}; "
                "logits by up to {largest_logit_difference:.2g}."
            ).format(**facts["parity"])
            if is_int8:
                # Integers give the same on every machine, so the self-test expects these.
                logits = load()(pixels[None])[0]
        arrays = {"selftest_pixels": pixels.flatten().numpy(), "selftest_logits": logits.numpy()}
        selftest = {"selftest_arrays": c_arrays(arrays), "selftest_label": int(logits.argmax())}
        for suffix in (".c", ".h"):
            text = render(f"lenet5{suffix}.j2", {**values, **selftest, "parity": parity})
            path.with_suffix(suffix).write_text(text, encoding="ascii", newline="\n")

    min_agreement = settings.min_agreement if is_int8 else None
    return save_and_compare(source, save, load, details=details, min_agreement=min_agreement)


def float_constants(model: LeNet5) -> dict[str, NDArray[Any]]:
    """Return float32 weights and bias of each layer, for pixels of 0 to 255."""
    config = model.config()
    background, ink = float(config["background"]), float(config["ink"])
    constants = {}
    for name, layer in layers_of(model).items():
        assert layer.bias is not None
        weights = layer.weight.detach().double().numpy()
        bias = layer.bias.detach().double().numpy()
        if name == "c1":
            # The network's own scaling of the pixels, and that of bytes to [0, 1].
            bias = bias + background * weights.sum(axis=(1, 2, 3))
            weights = weights * (ink - background) / 255
        constants[f"{name}_weights"] = weights.astype(np.float32)
        constants[f"{name}_bias"] = bias.astype(np.float32)
    return constants


def load_code(path: Path, prefix: str, ram_bytes: int, num_classes: int) -> Predict:
    """Compile a C file and return a function that runs it.

    Raises:
        ExportError: There is no compiler, or it fails.
    """
    compiler = shlex.split(os.environ.get("CC", ""))
    compiler = compiler or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not compiler:
        raise ExportError(
            "no C compiler found, and exported code is run before it is kept; install one with "
            "`apt install gcc`, `dnf install gcc` or `xcode-select --install`"
        )
    # A new folder each time: a path that was loaded before would give the old library again.
    with tempfile.TemporaryDirectory(prefix="lenet-c-") as folder:
        library = f"{folder}/model.so"
        command = [*compiler, *COMPILER_FLAGS, str(path.resolve()), "-o", library, "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise ExportError(f"`{compiler[0]}`: {error}") from None
        if done.returncode != 0:
            message = done.stderr.strip().splitlines() or ["no message"]
            raise ExportError(f"`{compiler[0]}` failed: {message[0]}")
        run = ctypes.CDLL(library)[f"{prefix}_run"]
    scratch = (ctypes.c_uint32 * (ram_bytes // 4))()

    def predict(images: Tensor) -> Tensor:
        logits = torch.empty(len(images), num_classes)
        for image, row in zip(images.contiguous(), logits, strict=True):
            pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (image, row))
            label = run(*pointers, scratch)
            if label != int(row.argmax()):
                raise ExportError("the C code returned a label that is not its largest logit's")
        return logits

    return predict


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a template of this folder, filled in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lenet", "export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)


def identifier(stem: str) -> str:
    """Return a C identifier for a file name's stem.

    Example:
        >>> identifier("my-net.v2")
        'my_net_v2'
        >>> identifier("5")
        'lenet_5'
    """
    name = re.sub(r"\W", "_", stem, flags=re.ASCII).lower()
    return name if name[:1].isalpha() else f"lenet_{name}"


def c_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the definitions of constant arrays."""

    def braced(values: NDArray[Any], indent: str) -> str:
        inner = indent + "    "
        if values.ndim > 1:
            rows = "".join(f"{inner}{braced(row, inner)},\n" for row in values)
            return f"{{\n{rows}{indent}}}"
        numbers = ", ".join(literal(value) for value in values)
        if len(values) == 5:  # a row of a kernel
            return f"{{{numbers}}}"
        lines = textwrap.fill(
            numbers + ",",
            95,
            initial_indent=inner,
            subsequent_indent=inner,
            break_on_hyphens=False,
        )
        return f"{{\n{lines}\n{indent}}}"

    definitions = []
    for name, values in arrays.items():
        c_type = "float" if values.dtype == np.float32 else f"{values.dtype}_t"
        shape = "".join(f"[{n}]" for n in values.shape)
        definitions.append(f"static const {c_type} {name}{shape} = {braced(values, '')};\n")
    return "\n".join(definitions)


def literal(value: np.generic) -> str:
    """Return a number as a C literal that reads back as the same number.

    Example:
        >>> literal(np.float32(0.1)), literal(np.float32(1e-20)), literal(np.int8(-3))
        ('0.1f', '1e-20f', '-3')
    """
    return f"{value!s}f" if isinstance(value, np.float32) else str(value)


def quoted(text: str) -> str:
    r"""Return a C string literal; all but plain ASCII becomes octal escapes of its UTF-8.

    Example:
        >>> quoted('T-shirt/top'), quoted('"\n')
        ('"T-shirt/top"', '"\\042\\012"')
    """
    plain = rb"[^A-Za-z0-9 _\-+/.,:]"
    escaped = re.sub(plain, lambda found: b"\\%03o" % found[0][0], text.encode())
    return f'"{escaped.decode()}"'


def comment_text(text: str) -> str:
    """Return text that can't end a comment or a line.

    Example:
        >>> comment_text("a*/ int x")
        'a*_ int x'
    """
    return re.sub(r"[^A-Za-z0-9 _\-+.,:()*]", "_", text)
