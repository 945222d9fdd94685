"""The images of a run: what it trains on, and what it is scored on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lenet.data.datasets import Progress
from lenet.data.digits import Digits, load, split_validation, subset
from lenet.errors import RecipeError
from lenet.training.recipe import Recipe
from lenet.training.run import Run


@dataclass(frozen=True, eq=False, kw_only=True)
class Splits:
    """Three sets of images that share none, and what they were made of."""

    train: Digits
    val: Digits | None
    test: Digits
    calibration: Digits | None
    """The val part of the data set itself, which a person's own pictures replace in `val`."""
    sha256: dict[str, str]
    """Of the data set's splits before any were cut or joined, and of the run's own files."""


def load_splits(run: Run, *, data_dir: Path | None, progress: Progress | None) -> Splits:
    """Load a run's images, as its recipe asks and with the pictures in its folder.

    Raises:
        DownloadError: The data set can't be had.
        RecipeError: The data set has too few images for the recipe.
        CheckpointError: The pictures in the run's folder are damaged.
    """
    data = load(run.recipe.dataset, "train", data_dir=data_dir, progress=progress)
    test = load(run.recipe.dataset, "test", data_dir=data_dir, progress=progress)
    train, val = _cut(run.recipe, data)
    sha256 = {digits.split: fingerprint(digits) for digits in (data, test)}
    calibration = val
    if run.images is not None or run.start is not None:
        from lenet.training.own import add_own, fingerprints

        train, val = add_own(run, train, val)
        sha256 |= fingerprints(run)
    return Splits(train=train, val=val, test=test, calibration=calibration, sha256=sha256)


def cut_splits(
    recipe: Recipe, *, data_dir: Path | None, progress: Progress | None
) -> tuple[Digits, Digits | None]:
    """Return the train and val splits of a recipe, from the data set alone."""
    data = load(recipe.dataset, "train", data_dir=data_dir, progress=progress)
    return _cut(recipe, data)


def _cut(recipe: Recipe, data: Digits) -> tuple[Digits, Digits | None]:
    train, val = data, None
    if recipe.num_val:
        if recipe.num_val >= len(data):
            raise RecipeError(
                f"`num_val` (={recipe.num_val}) must be less than the {len(data)} training images"
            )
        train, val = split_validation(data, recipe.num_val)
    if recipe.num_train:
        if recipe.num_train > len(train):
            raise RecipeError(
                f"`num_train` (={recipe.num_train}) must be at most the {len(train)} "
                "training images"
            )
        train = subset(train, recipe.num_train)
    return train, val


def fingerprint(digits: Digits) -> str:
    """Return the SHA-256 of the pixels, then the labels."""
    digest = hashlib.sha256(digits.images.numpy().data)
    digest.update(digits.labels.numpy().data)
    return digest.hexdigest()
