"""The page in which one draws and watches the network: HTML that needs no other file."""

import base64
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet.data.digits import to_input
from lenet.errors import ExportError
from lenet.export.artifact import Artifact, Settings
from lenet.export.browser import find_browser, run_page
from lenet.export.parity import Parity, Predict, compare, require_equal
from lenet.export.source import Source, describe, make_source
from lenet.files import replacing
from lenet.models.files import load_model
from lenet.page import PageDigits, build_page
from lenet.page.build import read_models

PER_CLASS = 3
"""Test images of each class that the page holds."""
MAX_MISTAKES = 60
"""Of the network's own on the test images; the surest first."""
MAX_CLASSES = 100
NOT_RUN = "not run in a browser, as no Chromium or Chrome was found"


def write(source: Source, path: Path, settings: Settings) -> Artifact:
    """Write `path`.

    Raises:
        ExportError: The network is none that the page computes, or the 1998 network gives other
            answers in it.
    """
    _check(source)
    sources = [source]
    if settings.with_1998 is not None:
        sources.append(_read_1998(settings.with_1998, source))
    digits = choose_digits(source)
    program, runner = find_browser() or ("", "")
    details: dict[str, Any] = {"run_in": runner or None, "test_images": len(digits.labels)}

    def save(facts: Mapping[str, Any]) -> None:
        page = build_page(
            [each.file for each in sources],
            digits=digits,
            facts={**facts, "exported": _say(facts, runner)},
        )
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")

    save({})
    if len(sources) > 1:
        parity = compare(sources[1], _open(path, 1, program))
        require_equal(parity)
        details["with_1998"] = {**describe(sources[1]), "parity": asdict(parity)}
    return Artifact(open=lambda: _open(path, 0, program), annotate=save, details=details)


def _check(source: Source) -> None:
    if getattr(source.model, "in_channels", 1) != 1:
        raise ExportError("`in_channels`: the page draws in one colour, and takes 1 alone")
    if len(source.card.classes) > MAX_CLASSES:
        raise ExportError(
            f"{len(source.card.classes)} classes: the page has a bar for each of {MAX_CLASSES}"
        )


def _read_1998(path: Path, source: Source) -> Source:
    """Read the network to compare with, on the images of the source."""
    found = make_source(path, source.scored, source.load_training)
    if found.card.model != "lenet5-1998":
        raise ExportError(f"{path}: `model` (={found.card.model!r}) must be 'lenet5-1998'")
    if found.card.classes != source.card.classes:
        raise ExportError(f"{path}: its classes are not those of the network to compare it with")
    return found


def choose_digits(source: Source) -> PageDigits:
    """Choose the test images that the page holds: some of each class, and mistakes."""
    labels, read = source.scored.labels, source.logits.argmax(1)
    is_wrong = read != labels
    right = [
        index
        for label in range(min(10, source.logits.shape[1]))
        for index in ((labels == label) & ~is_wrong).nonzero().flatten().tolist()[:PER_CLASS]
    ]
    # In turns, so that stepping shows another class each time.
    right = [index for turn in range(PER_CLASS) for index in right[turn::PER_CLASS]]
    sure = source.logits.softmax(1).max(1).values.masked_fill(~is_wrong, -1)
    order = sure.argsort(descending=True, stable=True)
    wrong = order[: min(MAX_MISTAKES, int(is_wrong.sum()))].tolist()
    chosen = [*right, *wrong]
    return PageDigits(
        images=source.scored.images[chosen].numpy().tobytes(),
        labels=labels[chosen].tolist(),
        numbers=chosen,
        mistakes=[index in set(wrong) for index in chosen],
        classes=source.card.classes,
        logits=source.logits[chosen].numpy().astype("<f4").tobytes(),
    )


def _open(path: Path, which: int, browser: str) -> Predict:
    return _open_page(path, which, browser) if browser else _open_file(path, which)


def _open_page(path: Path, which: int, browser: str) -> Predict:
    """Run the page itself, as whoever opens it does."""

    def predict(images: Tensor) -> Tensor:
        encoded = base64.b64encode(images.contiguous().numpy().tobytes()).decode()
        found = run_page(browser, path, f"lenet.predict('{encoded}', {which})")
        logits = np.frombuffer(base64.b64decode(found), "<f4").astype(np.float32)
        return torch.from_numpy(logits.reshape(len(images), -1))

    return predict


def _open_file(path: Path, which: int) -> Predict:
    """Run the model file that is in the page, but not the page's own code."""
    with tempfile.TemporaryDirectory(prefix="lenet-page-") as folder:
        copy = Path(folder) / "model.safetensors"
        copy.write_bytes(read_models(path.read_text(encoding="utf-8"))[which])
        model, _ = load_model(copy)

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        logits: Tensor = model(to_input(images))
        return logits

    return predict


def _say(facts: Mapping[str, Any], runner: str) -> str:
    """Return what the page says about how it was compared."""
    if "parity" not in facts:
        return ""
    parity = Parity(**facts["parity"])
    if not runner:
        return f"When it was exported, this page was {NOT_RUN}."
    return (
        f"When it was exported, this page ran in {runner} over {parity.num_images:,} test images: "
        f"{parity.num_images - parity.num_labels_differ:,} answers are PyTorch's, logits differ by "
        f"up to {parity.largest_logit_difference:.0e}."
    )
