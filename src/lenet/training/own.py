"""A person's own pictures in a run: made into digits once, kept in its folder, trained on.

Pictures go through the same normalization as those that are read. They join the images of the
recipe's data set, which keep the network from forgetting other people's digits; a fifth of each
label's pictures is held out and scored in place of the recipe's val split.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lenet.data.datasets import find_dataset
from lenet.data.digits import Digits
from lenet.errors import CheckpointError, PictureError, RunError
from lenet.files import replacing
from lenet.models import LeNet5, Network
from lenet.models.files import find_model, load_model
from lenet.reading.decode import DIGIT_SIDE, read_picture
from lenet.reading.labelled import find_labelled
from lenet.reading.normalize import normalize
from lenet.reading.reader import named_model
from lenet.training.run import OWN_FILE, START_FILE, Run

logger = logging.getLogger(__name__)

HELD_OUT = 5
"""One of that many pictures of a label is not trained on."""
SHARE = 0.1
"""Of the data set's training images; own pictures are repeated until they are as many."""


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnDigits:
    """A person's digits: (N, 28, 28) uint8 and (N,) int64."""

    images: Tensor
    labels: Tensor
    held_out: Tensor
    """(N,) bool: not trained on."""


def read_own(
    source: Path, classes: Sequence[str], on_error: Callable[[Path, PictureError], None]
) -> OwnDigits:
    """Read and normalize labelled pictures.

    Args:
        source: A folder with a subfolder for each label, or a CSV with columns path and label.
        classes: The labels that there are.
        on_error: Told of each picture that can't be read or shows no digit; the others go on.

    Raises:
        PictureError: No labelled pictures, none of them with a digit, or an unknown label.
    """
    labelled = find_labelled(source, classes)
    images, labels, keys = [], [], []
    for path, label in labelled:
        try:
            image = normalize(read_picture(path, DIGIT_SIDE).rgb).image
            if image is None:
                raise PictureError("no digit found")
        except PictureError as error:
            on_error(path, error)
            continue
        images.append(image)
        labels.append(classes.index(label))
        keys.append(hashlib.sha256(image.tobytes()).digest())
    if not images:
        raise PictureError(f"{source}: no picture with a digit in it")
    # By content, so that the same pictures are held out under any name, and all copies of one.
    held: set[bytes] = set()
    for number in set(labels):
        alike = sorted({key for key, label in zip(keys, labels, strict=True) if label == number})
        held.update(alike[: len(alike) // HELD_OUT])
    return OwnDigits(
        images=torch.from_numpy(np.stack(images)),
        labels=torch.tensor(labels),
        held_out=torch.tensor([key in held for key in keys]),
    )


def gather(run: Run, on_error: Callable[[Path, PictureError], None]) -> None:
    """Copy the pictures and the model that a run was asked to use into its folder, if not done yet.

    Raises:
        PictureError: The pictures can't be used; see `read_own`.
        CheckpointError: The model can't be used; see `keep_start`.
        RunError: The folder can't be written.
    """
    if run.start is not None and not (run.path / START_FILE).is_file():
        with named_model(run.start) as model:
            keep_start(run, model)
    if run.images is not None and not (run.path / OWN_FILE).is_file():
        classes = find_dataset(run.recipe.dataset).classes
        own = read_own(Path(run.images), classes, on_error)
        keep_own(run, own)
        if not own.held_out.any():
            logger.warning(
                "%s has fewer than %d different pictures of each label: none is held out, and val "
                "figures are of %s alone", run.images, HELD_OUT, run.recipe.dataset,
            )  # fmt: skip


def keep_own(run: Run, own: OwnDigits) -> None:
    """Write a person's digits into a run's folder.

    Raises:
        RunError: The folder can't be written.
    """
    try:
        with replacing(run.path / OWN_FILE) as temporary:
            tensors = {"images": own.images, "labels": own.labels, "held_out": own.held_out}
            save_file(tensors, temporary)
    except OSError as error:
        raise RunError(f"{run.path}: can't write {OWN_FILE}: {error.strerror}") from None


def keep_start(run: Run, model: Path) -> None:
    """Copy the model whose weights a run is to begin with into its folder.

    Raises:
        CheckpointError: There is none, or it is not the recipe's network.
        RunError: The folder can't be written.
    """
    _check_start(run, model)
    try:
        with replacing(run.path / START_FILE) as temporary:
            shutil.copyfile(find_model(model), temporary)
    except OSError as error:
        raise RunError(f"{run.path}: can't write {START_FILE}: {error.strerror}") from None


def add_own(run: Run, train: Digits, val: Digits | None) -> tuple[Digits, Digits | None]:
    """Return the splits with the pictures that a run's folder holds, if it does.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = run.path / OWN_FILE
    if not path.is_file():
        _require_none(run, run.images)
        return train, val
    try:
        tensors = load_file(path)
        images, labels = tensors["images"], tensors["labels"]
        held_out = tensors["held_out"]
        if images.shape[1:] != (28, 28) or not len(images) == len(labels) == len(held_out):
            raise ValueError(f"images of shape {tuple(images.shape)}")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: expected digits, found: {error}") from None
    own_images, own_labels = images[~held_out], labels[~held_out]
    times = max(1, round(SHARE * len(train) / max(1, len(own_images))))
    joined = Digits(
        images=torch.cat([train.images, own_images.repeat(times, 1, 1)]),
        labels=torch.cat([train.labels, own_labels.repeat(times)]),
        name=train.name,
        split="train",
        classes=train.classes,
    )
    if not held_out.any():
        return joined, val
    own_val = Digits(
        images=images[held_out],
        labels=labels[held_out],
        name="own",
        split="val",
        classes=train.classes,
    )
    return joined, own_val


def fingerprints(run: Run) -> dict[str, str]:
    """Return the SHA-256 of the pictures and the model in a run's folder, by the names' stems."""
    paths = [run.path / name for name in (OWN_FILE, START_FILE) if (run.path / name).is_file()]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def start_temperature(run: Run) -> float | None:
    """Return the temperature of the model that a run begins with, if it names one that has it."""
    path = run.path / START_FILE
    return load_model(path)[1].scores.temperature if path.is_file() else None


def load_start(run: Run, network: Network) -> None:
    """Give a network the weights that a run begins with, if its folder names any.

    A class of garbage, which no model file holds, begins as one whose logit is 0.
    """
    path = run.path / START_FILE
    if not path.is_file():
        _require_none(run, run.start)
        return
    _check_start(run, path)
    wanted = network.state_dict()
    for name, tensor in load_model(path)[0].state_dict().items():
        wanted[name].zero_()
        wanted[name][tuple(slice(size) for size in tensor.shape)] = tensor


def _require_none(run: Run, wanted: str | None) -> None:
    if wanted is not None:
        raise RunError(
            f"{run.path}: {wanted} was not copied into it; "
            f"`lenet train --resume --out {run.path}` does so"
        )


def _check_start(run: Run, model: Path) -> None:
    """Refuse to begin with a network that is not the recipe's."""
    network, card = load_model(model)
    recipe = run.recipe
    found = network.config()
    # What a background pixel and one of ink become is taken over with the weights.
    names = ("activation", "pooling", "resize")
    different = [name for name in names if found.get(name) != getattr(recipe, name)]
    if card.model != recipe.model or not isinstance(network, LeNet5):
        different.insert(0, "model")
    if different:
        raise CheckpointError(
            f"{model}: not the recipe's network, but of another {' and '.join(different)}; "
            f"it was trained by the recipe {card.recipe_name or 'unknown'}"
        )
