"""The training loop: a run from its recipe to its record. Read `train` from top to bottom."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lenet.data.digits import Digits, Sampler, batches
from lenet.models import build_network
from lenet.parallel import num_cores
from lenet.schema import RECORD_FILE, EpochScores, RunRecord, read
from lenet.training.device import choose_device, describe_device, reproducible
from lenet.training.finish import write_results
from lenet.training.learners import Tally as Tally
from lenet.training.learners import TorchLearner, make_learner, require_finite, tally_logits
from lenet.training.optimization import lr_at
from lenet.training.run import Run
from lenet.training.splits import load_splits

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


def score(learner: TorchLearner, digits: Digits, device: torch.device) -> Tally:
    """Return loss and accuracy over a split, without training."""
    tally = Tally()
    images, labels = digits.images.to(device), digits.labels.to(device)
    for x, y in batches(images, labels, batch_size=SCORED_AT_A_TIME, shuffle=False, as_bytes=True):
        logits = learner.logits(x)
        tally += tally_logits(logits, y, learner.report(logits, y))
    return tally


def make_sampler(
    run: Run, engine: str, images: Tensor, labels: Tensor
) -> Callable[[int], Sampler | None]:
    """Return a function of the epoch: what distorts the training images, or None for none."""
    if run.recipe.distortions == "none":
        return lambda epoch: None
    from lenet.training.sampling import Sampling

    return Sampling(run.recipe, run.seed, engine, images, labels).epoch
