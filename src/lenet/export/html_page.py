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

from lenet.errors import ExportError
from lenet.export.browser import find_browser, run_page
from lenet.export.parity import (
    Measured,
    Predict,
    Settings,
    Source,
    check,
    compare,
    predictor,
    read_source,
    run_export,
    save_and_compare,
)
from lenet.models.files import load_model
from lenet.page import PageDigits, TrainingDigits, build_page
from lenet.page.build import read_models

PER_CLASS = 3
"""Test images of each class that the page holds."""
MAX_MISTAKES = 60
"""Test images that the network misreads; those with the highest probability first."""
MAX_CLASSES = 100
NOT_RUN = "not run in a browser, as no Chromium or Chrome was found"


def write(source: Source, path: Path, settings: Settings) -> Measured:
    """Write `path`, and run it in a browser if there is one.

    Raises:
        ExportError: The page can't show this network, or the 1998 network gives other answers in
            it.
    """
    if getattr(source.model, "in_channels", 1) != 1:
        raise ExportError("`in_channels`: the page draws in one colour, and takes 1 alone")
    num_classes = len(source.card.classes)
    if num_classes > MAX_CLASSES:
        raise ExportError(f"{num_classes} classes: the page has a bar for each of {MAX_CLASSES}")
    sources = [source]
    if settings.with_1998 is not None:
        sources.append(_read_1998(settings.with_1998, source))
    digits = choose_digits(source)
    training = choose_training(source, settings.train) if settings.train else None
    program, browser = find_browser() or (None, None)
    details: dict[str, Any] = {"run_in": browser, "test_images": len(digits.labels)}

    def save(facts: Mapping[str, Any]) -> None:
        page = build_page(
            [each.file for each in sources],
            digits=digits,
            training=training,
            facts={**facts, "exported": _describe_check(facts, browser)},
        )
        path.write_text(page, encoding="utf-8")

    def load(number: int) -> Predict:
        return _load_page(path, number, program) if program else _load_file(path, number)

    if len(sources) > 1:
        save({})
        parity = compare(sources[1], run_export(load(1), sources[1].test.images))
        check(parity)
        details["with_1998"] = {**sources[1].describe(), "parity": asdict(parity)}
    return save_and_compare(source, save, lambda: load(0), details=details)


def _read_1998(path: Path, source: Source) -> Source:
    """Read the 1998 network, to compare on the same images as the source."""
    found = read_source(path, test=source.test)
    if found.card.model != "lenet5-1998":
        raise ExportError(f"{path}: `model` (={found.card.model!r}) must be 'lenet5-1998'")
    if found.card.classes != source.card.classes:
        raise ExportError(f"{path}: its classes are not those of the network to compare it with")
    return found


def choose_digits(source: Source) -> PageDigits:
    """Choose the test images that the page holds: some of each class, and mistakes."""
    labels = source.test.labels
    is_wrong = source.logits.argmax(1) != labels
    right = [
        index
        for label in range(min(10, source.logits.shape[1]))
        for index in ((labels == label) & ~is_wrong).nonzero().flatten().tolist()[:PER_CLASS]
    ]
    # One of each class in turn, so that stepping shows another class each time.
    right = [index for turn in range(PER_CLASS) for index in right[turn::PER_CLASS]]
    confidence = source.logits.softmax(1).max(1).values.masked_fill(~is_wrong, -1)
    order = confidence.argsort(descending=True, stable=True)
    wrong = order[: min(MAX_MISTAKES, int(is_wrong.sum()))].tolist()
    chosen = [*right, *wrong]
    return PageDigits(
        images=source.test.images[chosen].numpy().tobytes(),
        labels=labels[chosen].tolist(),
        numbers=chosen,
        mistakes=is_wrong[chosen].tolist(),
        classes=source.card.classes,
        logits=source.logits[chosen].numpy().astype("<f4").tobytes(),
    )


def choose_training(source: Source, num_images: int) -> TrainingDigits:
    """Return the first training images, for the page to train on, and all test images.

    Raises:
        ExportError: There are not so many, or they are of other classes than ten digits.
    """
    train, test = source.load_training(), source.test
    if len(train) < num_images:
        raise ExportError(f"`train` (={num_images}) must be at most {len(train)}")
    if len(source.card.classes) != 10:
        raise ExportError("`train`: the page trains a network of ten classes")
    images, labels = train.images[:num_images], train.labels[:num_images]
    parts = (images, labels.byte(), test.images, test.labels.byte())
    return TrainingDigits(
        num_train=num_images,
        num_test=len(test),
        content=b"".join(part.contiguous().numpy().tobytes() for part in parts),
    )


def _load_page(path: Path, number: int, program: str) -> Predict:
    """Return what the page itself computes with one of its networks, in a browser."""

    def predict(images: Tensor) -> Tensor:
        encoded = base64.b64encode(images.contiguous().numpy().tobytes()).decode()
        answer = run_page(program, path, f"lenet.predict('{encoded}', {number})")
        logits = np.frombuffer(base64.b64decode(answer), "<f4").astype(np.float32)
        return torch.from_numpy(logits.reshape(len(images), -1))

    return predict


def _load_file(path: Path, number: int) -> Predict:
    """Return what the model file inside the page computes, without the page's own code."""
    with tempfile.TemporaryDirectory(prefix="lenet-page-") as folder:
        copy = Path(folder) / "model.safetensors"
        copy.write_bytes(read_models(path.read_text(encoding="utf-8"))[number])
        return predictor(load_model(copy)[0])


def _describe_check(facts: Mapping[str, Any], browser: str | None) -> str:
    """Return the page's sentence about how it was compared; empty before that."""
    if "parity" not in facts:
        return ""
    if browser is None:
        return f"When it was exported, this page was {NOT_RUN}."
    parity = facts["parity"]
    return (
        f"When it was exported, this page ran in {browser} over {parity['num_images']:,} test "
        f"images: {parity['num_images'] - parity['num_labels_differ']:,} answers are PyTorch's, "
        f"logits differ by up to {parity['largest_logit_difference']:.0e}."
    )
