"""What is exported: a model, what its file says, and its logits on the images it is held to."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lenet import __version__
from lenet.data.datasets import Progress
from lenet.data.digits import Digits, load
from lenet.models import Network
from lenet.models.files import find_model, load_model
from lenet.results.scores import compute_logits
from lenet.schema import ModelCard

INPUT = "x: (batch, 1, 28, 28) float32 in [0, 1], 0 = background, 1 = ink"
OUTPUT = "logits: (batch, classes) float32, larger = likelier"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model and all that an exporter may need of it."""

    model: Network
    """On the CPU, in evaluation mode."""
    card: ModelCard
    file: bytes
    """The model file."""
    sha256: str
    """Of it."""
    scored: Digits
    """The test images: every export must give the source's labels on them."""
    logits: Tensor
    """(N, num_classes) float32, the source's own on `scored`."""
    load_training: Callable[[], Digits]
    """Loads the training images, for who has something to calibrate."""


def read_source(
    path: Path, *, data_dir: Path | None = None, progress: Progress | None = None
) -> Source:
    """Read a model and the test images of its data set, and compute its logits.

    Args:
        path: Run directory or model file.
        data_dir: A folder that holds the data set's files; see `lenet.data.fetch`.
        progress: Told what is being fetched.

    Raises:
        CheckpointError: `path` is no model.
        DownloadError: The data set can't be had.
    """
    card = load_model(path)[1]
    scored = load(card.dataset, "test", data_dir=data_dir, progress=progress)
    return make_source(
        path, scored, lambda: load(card.dataset, "train", data_dir=data_dir, progress=progress)
    )


def make_source(path: Path, scored: Digits, load_training: Callable[[], Digits]) -> Source:
    """Read a model and compute its logits on images that are there already.

    Raises:
        CheckpointError: `path` is no model.
    """
    model, card = load_model(path)
    file = find_model(path).read_bytes()
    return Source(
        model=model,
        card=card,
        file=file,
        sha256=hashlib.sha256(file).hexdigest(),
        scored=scored,
        logits=compute_logits(model, scored.images),
        load_training=load_training,
    )


def describe(source: Source) -> dict[str, Any]:
    """Return what an exported file says about its source, as plain values."""
    card = source.card
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
        "source_sha256": source.sha256,
        "input": INPUT,
        "output": OUTPUT,
    }
