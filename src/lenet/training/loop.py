"""The training loop: a run from its recipe to its record. Read `train` from top to bottom.

What it calls first is below it, in that order: the device, the images, their distortions, scoring.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lenet.data.datasets import Progress
from lenet.data.digits import Digits, Sampler, batches, load, split_validation, subset
from lenet.errors import RecipeError
from lenet.models import build_network
from lenet.parallel import num_cores
from lenet.schema import RECORD_FILE, EpochScores, RunRecord, read
from lenet.training.finish import describe_device, write_results
from lenet.training.learners import Tally as Tally
from lenet.training.learners import TorchLearner, make_learner, require_finite, tally_logits
from lenet.training.optimization import lr_at
from lenet.training.recipe import Recipe
from lenet.training.run import Run

SCORED_AT_A_TIME = 1000
"""Images; changes the memory needed, not the result."""


class Watcher:
    """Callbacks of a run, to show its progress. These show nothing."""

    def download(self, name: str, num_bytes: int, total_bytes: int | None) -> None:
        """Called as a file of the data set arrives."""

    def start(self, run: Run, device: str, num_images: int, num_epochs_done: int) -> None:
        """Called when training begins or continues."""

    def batch(self, epoch: int, tally: Tally) -> None:
        """Called after each step; `epoch` is 0 for the first."""

    def epoch(self, scores: EpochScores) -> None:
        """Called after each epoch, when its state is safe on the disk."""


def train(
    run: Run,
    *,
    device: str = "auto",
    engine: str = "auto",
    num_threads: int = 0,
    max_cores: int = 0,
    data_dir: Path | None = None,
    watcher: Watcher | None = None,
) -> RunRecord:
    """Train what a run directory asks for, from where it was stopped, and write its results there.

    Args:
        run: From `create_run` or `open_run`. A finished run is returned as it is.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:N" or "mps".
        engine: "auto", "native" (compiled kernels, on the CPU) or "torch".
        num_threads: CPU threads; 0 for one a core with the native engine, whose results do
            not depend on it, and one with torch's, whose results do.
        max_cores: Threads of the native engine where `num_threads` is 0, in a process that shares
            the machine with others; 0 for all.
        data_dir: Folder with the data set's files; see `lenet.data`.
        watcher: Told of the progress.

    Returns:
        The record, as it stands in record.json.

    Raises:
        DownloadError: The data set can't be had.
        CheckpointError: The resume state is damaged or of another run.
        DivergenceError: The training loss is no longer finite.
        RunError: Another process trains here, or the folder can't be written.
    """
    watcher, recipe, seed = watcher or Watcher(), run.recipe, run.seed
    with run.claim():
        if run.from_first(lambda: run.is_finished):
            return run.from_first(lambda: read(run.path / RECORD_FILE, RunRecord))
        place = run.device or choose_device(device)
        with reproducible(place):
            splits = load_splits(run, data_dir=data_dir, progress=watcher.download)
            digits = splits.train
            if recipe.non_digits:
                from lenet.training.non_digits import add_non_digits

                digits = add_non_digits(digits, recipe.non_digits)
            model = build_network(recipe, seed, num_classes=len(digits.classes))
            run.load_start(model)
            cores = num_threads or max_cores or max(1, num_cores() // run.num_local)
            learner = make_learner(
                recipe, model.to(place), engine=engine, seed=seed, num_threads=cores
            )
            if recipe.lines:
                from lenet.training.line_learner import LineLearner
                from lenet.training.lines import LineMaker

                maker = LineMaker(splits.train, seed=seed, engine=engine, device=place)
                learner = LineLearner(learner, maker, recipe.lines)
            learner = run.share(learner)
            if learner.engine == "torch" and num_threads:
                torch.set_num_threads(num_threads)

            progress = run.restore(learner, splits.sha256)
            images, labels = digits.images.to(place), digits.labels.to(place)
            sampler = make_sampler(run, engine, images, labels)
            steps_per_epoch = math.ceil(len(images) / learner.batch_size)
            step = len(progress.epochs) * steps_per_epoch
            where = f"{describe_device(place, run.world_size)}, {learner.engine} engine"
            watcher.start(run, where, len(images), len(progress.epochs))

            for epoch in range(len(progress.epochs), recipe.epochs):
                start, tally = time.perf_counter(), Tally()
                learner.begin_epoch(epoch, images)
                for x, y in batches(
                    images,
                    labels,
                    batch_size=learner.batch_size,
                    seed=seed,
                    epoch=0 if recipe.order == "constant" else epoch,
                    rank=run.rank,
                    world_size=run.world_size,
                    as_bytes=True,
                    sample=sampler(epoch),
                ):
                    tally += learner.step(x, y, lr_at(recipe, step, steps_per_epoch))
                    step += 1
                    watcher.batch(epoch, tally)
                require_finite(tally, epoch)
                train_s = time.perf_counter() - start

                # `val` is cut from the training images and is what one chooses by. The test images
                # are scored once, at the end, except by the recipe that repeats the notebook.
                split = "test" if recipe.test_as_validation else "val"
                held_out = splits.test if recipe.test_as_validation else splits.val
                valid = None if held_out is None else score(learner, held_out, place)
                scores = EpochScores(
                    epoch=epoch + 1,
                    train_loss=tally.loss,
                    train_accuracy=tally.accuracy,
                    lr=lr_at(recipe, step - 1, steps_per_epoch),
                    duration_s=time.perf_counter() - start,
                    images_per_s=tally.num_images / train_s,
                    **{
                        f"{split}_loss": None if valid is None else valid.loss,
                        f"{split}_accuracy": None if valid is None else valid.accuracy,
                    },
                )
                progress.epochs.append(scores)
                run.save_epoch(learner, progress)  # the resume state first, then metrics.jsonl
                watcher.epoch(scores)

            return run.from_first(lambda: write_results(run, learner, splits, progress, place))


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        RecipeError: torch does not know the name, or the device is not on this machine.
    """
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if _is_available(kind)), "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"`device` (={name!r}) must be auto, cpu, cuda, cuda:N or mps") from None
    if not _is_available(device.type):
        have = [kind for kind in ("cuda", "mps", "cpu") if _is_available(kind)]
        raise RecipeError(f"`device` (={name!r}) is not on this machine; there is: {have}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"`device` (={name!r}): this machine has {torch.cuda.device_count()} CUDA device(s)"
        )
    return device


def _is_available(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu"


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Compute inside the block so that equal runs give equal bits.

    torch takes one CPU thread: on work this small, more gain a fifth on an idle machine and stall a
    busy one (docs/decisions.md), and figures would depend on the number of cores. On CUDA,
    deterministic algorithms are chosen; the CPU's always are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if device.type == "cuda":
        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.use_deterministic_algorithms(before[0])
            torch.backends.cudnn.benchmark = before[1]


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
    train, val = cut_splits(run.recipe, data)
    sha256 = {digits.split: fingerprint(digits) for digits in (data, test)}
    calibration = val
    if run.images is not None or run.start is not None:
        from lenet.training.own import add_own, fingerprints

        train, val = add_own(run, train, val)
        sha256 |= fingerprints(run)
    return Splits(train=train, val=val, test=test, calibration=calibration, sha256=sha256)


def cut_splits(recipe: Recipe, data: Digits) -> tuple[Digits, Digits | None]:
    """Return the train and val splits that a recipe cuts from a data set's training images."""
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


def make_sampler(
    run: Run, engine: str, images: Tensor, labels: Tensor
) -> Callable[[int], Sampler | None]:
    """Return a function of the epoch: what distorts the training images, or None for none."""
    if run.recipe.distortions == "none":
        return lambda epoch: None
    from lenet.training.sampling import Sampling

    return Sampling(run.recipe, run.seed, engine, images, labels).epoch


def score(learner: TorchLearner, digits: Digits, device: torch.device) -> Tally:
    """Return loss and accuracy over a split, without training."""
    tally = Tally()
    images, labels = digits.images.to(device), digits.labels.to(device)
    for x, y in batches(images, labels, batch_size=SCORED_AT_A_TIME, shuffle=False, as_bytes=True):
        logits = learner.logits(x)
        tally += tally_logits(logits, y, learner.report(logits, y))
    return tally
