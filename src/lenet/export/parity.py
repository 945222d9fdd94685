"""What a format is given (a model and its test images), and the comparison of what it writes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lenet import __version__
from lenet.data.datasets import Progress
from lenet.data.digits import Digits, load, to_input
from lenet.errors import ExportError
from lenet.models import Network
from lenet.models.files import find_model, load_model
from lenet.results.scores import compute_logits
from lenet.schema import ModelCard

Predict = Callable[[Tensor], Tensor]
"""(B, 28, 28) uint8 to (B, num_classes) float32 logits, computed from the exported files."""

ROUNDING = 1e-5
"""Largest difference of logits that float32 sums in another order may cause, as a share of the
largest logit; measured: 1e-6."""
AT_A_TIME = 2500
"""Images that an export computes in one call; for a page, one start of a browser."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of an export."""

    c_type: Literal["float", "int8"] = "float"
    """Numbers that the C code computes with."""
    min_agreement: float = 0.999
    """Smallest share of equal labels, 0..1, with which a quantized export is kept."""
    opset: int = 18
    """Version of the ONNX operators, for onnx and triton."""
    with_1998: Path | None = None
    """For html: run directory or model file of a 1998 network to show beside the first."""
    train: int = 0
    """For html: how many training images the page holds, to train on."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.min_agreement <= 1:
            raise ExportError(f"`min_agreement` (={self.min_agreement}) must be between 0 and 1")
        if self.train and self.train < 1000:
            raise ExportError(f"`train` (={self.train}) must be 0 or at least 1000")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model, with the images and logits that its exports are compared on."""

    model: Network
    """On the CPU, in evaluation mode."""
    card: ModelCard
    file: bytes
    """Content of the model file."""
    test: Digits
    logits: Tensor
    """(N, num_classes) float32, of the model on the test images."""
    load_training: Callable[[], Digits]
    """Loads the training images, for formats that calibrate on them."""

    @property
    def sha256(self) -> str:
        """Of the model file."""
        return hashlib.sha256(self.file).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return what an exported file says about its source, as plain values."""
        card = self.card
        return {
            "lenet_version": __version__,
            "model": card.model,
            "config": card.config,
            "classes": list(card.classes),
            "dataset": card.dataset,
            "recipe_name": card.recipe_name,
            "recipe": card.recipe,
            "seed": card.seed,
            "epochs": card.epochs,
            "source_sha256": self.sha256,
            "input": "x: (batch, 1, 28, 28) float32 in [0, 1], 0 = background, 1 = ink",
            "output": "logits: (batch, classes) float32, larger = likelier",
        }


def read_source(
    path: Path,
    *,
    test: Digits | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Source:
    """Read a model and compute its logits.

    Args:
        path: Run directory or model file.
        test: Images to compare on; the test images of the model's data set if None.
        data_dir: A folder that holds the data set's files; see `lenet.data.fetch`.
        progress: Called during downloads.

    Raises:
        CheckpointError: `path` is not a model.
        DownloadError: The data set can't be downloaded.
    """
    model, card = load_model(path)
    if test is None:
        test = load(card.dataset, "test", data_dir=data_dir, progress=progress)
    return Source(
        model=model,
        card=card,
        file=find_model(path).read_bytes(),
        test=test,
        logits=compute_logits(model, test.images),
        load_training=lambda: load(card.dataset, "train", data_dir=data_dir, progress=progress),
    )


@dataclass(frozen=True, kw_only=True)
class Parity:
    """An export beside its source, on the test images of the source's data set."""

    num_images: int
    largest_logit: float
    """Largest absolute value of the source's logits: the scale of the next figure."""
    largest_logit_difference: float
    num_labels_differ: int
    label_agreement: float
    """Share of the images on which both give the same label, 0..1."""
    source_accuracy: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the function of a format returns."""

    parity: Parity
    details: dict[str, Any]
    """Facts that only this format has."""


def save_and_compare(
    source: Source,
    save: Callable[[Mapping[str, Any]], None],
    load: Callable[[], Predict],
    *,
    details: dict[str, Any],
    min_agreement: float | None = None,
) -> Measured:
    """Write an export, compare it with its source, and write it again with the figures inside.

    Args:
        source: The model and its images.
        save: Writes the files, with these facts (plain values) inside.
        load: Reads what `save` wrote.
        details: Facts that only this format has.
        min_agreement: As in `check`.

    Raises:
        ExportError: The export differs from its source.
    """
    save({})
    logits = run_export(load(), source.test.images)
    parity = compare(source, logits)
    check(parity, min_agreement)
    save({**source.describe(), **details, "parity": asdict(parity)})
    # The files that are kept are these; they should differ from the ones compared by facts alone.
    again = run_export(load(), source.test.images[:AT_A_TIME])
    if not torch.equal(again, logits[:AT_A_TIME]):
        raise ExportError("the export changed its answers when its metadata was written")
    return Measured(parity=parity, details=details)


def predictor(model: Callable[[Tensor], Tensor]) -> Predict:
    """Return what computes the logits of bytes by a model of pixels in [0, 1]."""
    return lambda images: model(to_input(images))


def run_export(predict: Predict, images: Tensor) -> Tensor:
    """Return the logits (N, n) that an export gives for images (N, 28, 28) uint8."""
    return compute_logits(predict, images, batch_size=AT_A_TIME, takes_bytes=True)


def compare(source: Source, logits: Tensor) -> Parity:
    """Compare an export with its source by its logits of the test images."""
    if logits.shape != source.logits.shape:
        raise ExportError(
            f"the export returns logits of shape {tuple(logits.shape)}; "
            f"expected {tuple(source.logits.shape)}"
        )
    labels, source_labels = logits.argmax(1), source.logits.argmax(1)
    num_images, num_differ = len(labels), int((labels != source_labels).sum())
    return Parity(
        num_images=num_images,
        largest_logit=float(source.logits.abs().max()),
        largest_logit_difference=float((logits - source.logits).abs().max()),
        num_labels_differ=num_differ,
        label_agreement=1 - num_differ / num_images,
        source_accuracy=int((source_labels == source.test.labels).sum()) / num_images,
        accuracy=int((labels == source.test.labels).sum()) / num_images,
    )


def check(parity: Parity, min_agreement: float | None = None) -> None:
    """Refuse an export that differs from its source.

    Args:
        parity: The comparison.
        min_agreement: For a quantized export, the smallest share of equal labels, 0..1. Its
            accuracy may differ by half of the rest: at 0.999, by 0.05 points. None for exports
            that may differ by float32 rounding alone.

    Raises:
        ExportError: It differs by more.
    """
    difference = parity.largest_logit_difference
    if min_agreement is None:
        allowed = ROUNDING * max(1.0, parity.largest_logit)
        # `not <=` instead of `>`, so that NaN is refused; below too.
        if parity.num_labels_differ or not difference <= allowed:
            raise ExportError(
                f"the export differs from its source: {parity.num_labels_differ} of "
                f"{parity.num_images:,} labels, logits by up to {difference:.2g} "
                f"(allowed: none, and {allowed:.2g}); no file was left"
            )
        return
    allowed = (1 - min_agreement) / 2 + 1e-9
    moved = abs(parity.accuracy - parity.source_accuracy)
    is_finite = difference <= float("inf")
    if not is_finite or parity.label_agreement < min_agreement or moved > allowed:
        raise ExportError(
            f"the quantized export differs from its source: labels agree on "
            f"{parity.label_agreement:.2%} of {parity.num_images:,} images (at least "
            f"{min_agreement:.2%} must), accuracy {parity.accuracy:.2%} after "
            f"{parity.source_accuracy:.2%} (at most {100 * allowed:.2f} points apart); "
            "no file was left; --min-agreement allows more"
        )


def as_strings(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return facts as file metadata: strings as they are, other values as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in facts.items()
    }
