"""Put the page together out of the files beside this one."""

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lenet import __version__

FOLDER = Path(__file__).parent
NUMBERS = (
    *("safetensors", "network", "grey", "regions", "paper", "card", "lines", "foreign"),
    *("number", "normalize", "trace", "trainer"),
)
"""Scripts that compute and touch no document, in an order in which each finds what it uses."""
PARTS = (
    *("elements", "pictures", "board", "layers", "inspector", "links", "answer", "samples"),
    *("facts", "training", "share", "app"),
)
"""Scripts that make the page, likewise."""
TITLE = "LeNet-5"
KERNELS = "kernels.wasm"
"""Made by scripts/build_wasm.py."""


@dataclass(frozen=True, kw_only=True)
class PageDigits:
    """Test images to step through."""

    images: bytes
    """28 x 28 each, 0 = background, 255 = ink."""
    labels: Sequence[int]
    numbers: Sequence[int]
    """Each one's place among the test images, from 0."""
    mistakes: Sequence[bool]
    """Whether the first network misreads it."""
    classes: Sequence[str]
    logits: bytes
    """Of the first network's source, float32, little-endian: the page compares its own."""


@dataclass(frozen=True, kw_only=True)
class TrainingDigits:
    """Images to train on in the page, and to test on, with their labels."""

    num_train: int
    num_test: int
    content: bytes
    """Training images, 28 x 28 each, training labels, test images, test labels; a byte each."""


@cache
def read_script(names: tuple[str, ...] = (*NUMBERS, *PARTS)) -> str:
    """Return scripts as one."""
    return "".join((FOLDER / f"{name}.js").read_text(encoding="ascii") for name in names)


@cache
def _read_style() -> str:
    return (FOLDER / "page.css").read_text(encoding="ascii")


def content_security_policy(*, is_header: bool = True) -> str:
    """Return the policy under which the page runs, the same whatever it holds.

    Its one script and one style are named by their hashes, and nothing may be loaded or sent. To
    train, it starts a worker from its own text, in which WebAssembly is compiled.

    Args:
        is_header: For a response's header. The page itself carries the rest as a `<meta>` element,
            in which browsers take no `frame-ancestors`.
    """

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    parts = [
        "default-src 'none'",
        f"script-src {hashed(read_script())} 'wasm-unsafe-eval'",
        "worker-src blob:",
        f"style-src {hashed(_read_style())}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*parts, "frame-ancestors 'none'"] if is_header else parts)


def build_page(
    models: Sequence[bytes],
    *,
    digits: PageDigits | None = None,
    training: TrainingDigits | None = None,
    title: str = TITLE,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Return the page as one HTML file.

    Args:
        models: Contents of model files; the first is shown first. They are taken as they are: who
            must not fail later reads them with `lenet.models.files.load_model` before.
        digits: Test images of the first; without them the page has only digits drawn by itself.
        training: What it can train on; without it, whoever uses the page chooses the files.
        title: Its heading.
        facts: Plain values that the page carries for who reads its source; `exported`, a sentence,
            is also shown.
    """
    data: dict[str, Any] = {**(facts or {}), "digits": None}
    if digits is not None:
        data["digits"] = {
            "images": _encode(digits.images),
            "labels": list(digits.labels),
            "numbers": list(digits.numbers),
            "mistakes": list(digits.mistakes),
            "classes": list(digits.classes),
            "logits": _encode(digits.logits),
        }
    packed = {"kernels": (FOLDER / KERNELS).read_bytes()}
    if training is not None:
        data["training"] = {"train": training.num_train, "test": training.num_test}
        packed["page-training"] = training.content
    # Within a script element only "<" could end it or open a comment.
    text = json.dumps(data, sort_keys=True).replace("<", "\\u003c")
    blocks = [f'<script type="application/json" id="page-data">{text}</script>']
    blocks += [
        f'<script type="application/octet-stream" data-model="{i}">{_encode(model)}</script>'
        for i, model in enumerate(models)
    ]
    for name, content in packed.items():
        text = _encode(gzip.compress(content, mtime=0))
        blocks.append(f'<script type="application/gzip" id="{name}">{text}</script>')
    values = {
        "csp": html.escape(content_security_policy(is_header=False)),
        "version": __version__,
        "title": html.escape(title),
        "style": _read_style(),
        "script": read_script(),
        "data": "\n".join(blocks),
    }
    template = (FOLDER / "page.html").read_text(encoding="ascii")
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)


def read_models(page: str) -> list[bytes]:
    """Return the model files in a page."""
    found = re.findall(r'<script type="application/octet-stream" data-model="\d+">([^<]*)<', page)
    return [base64.b64decode(text, validate=True) for text in found]


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
