"""Train a run: the one training loop, from a recipe to a record. Read `train` from top to bottom.

`training_loop` and `get_accuracy` are the notebook's functions, for code that brings a model, an
optimizer and loaders of its own.
"""

import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.data.digits import Digits, Sampler, batches
from lenet.errors import DivergenceError
from lenet.models import build_network
from lenet.parallel import num_cores
from lenet.results.records import RECORD_FILE, read_run_record
from lenet.schema import EpochScores, RunRecord
from lenet.training.device import choose_device, describe_device, reproducible
from lenet.training.finish import write_results
from lenet.training.learners import Tally as Tally
from lenet.training.learners import TorchLearner, forward, make_learner, tally_logits
from lenet.training.optimization import lr_at
from lenet.training.run import Run
from lenet.training.splits import load_splits

SCORED_AT_A_TIME = 1000
"""Images; changes the memory needed, not the result."""


class Watcher:
    """Told of a run's progress; every method returns at once. This one shows nothing."""

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
            return run.from_first(lambda: read_run_record(run.path / RECORD_FILE))
        place = run.device or choose_device(device)
        with reproducible(place):
            splits = load_splits(run, data_dir=data_dir, progress=watcher.download)
            digits = with_segments(splits.train, run)
            model = build_network(recipe, seed, num_classes=len(digits.classes))
            run.load_start(model)
            cores = num_threads or max_cores or max(1, num_cores() // run.num_local)
            learner = run.share(
                make_learner(recipe, model.to(place), engine=engine, seed=seed, num_threads=cores)
            )
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


def require_finite(tally: Tally, epoch: int) -> None:
    """Raise DivergenceError if the training loss of an epoch is infinite or not a number."""
    if not math.isfinite(tally.loss):
        raise DivergenceError(
            f"the training loss of epoch {epoch + 1} is {tally.loss}; try a smaller learning rate"
        )


def with_segments(digits: Digits, run: Run) -> Digits:
    """Return the training images with those that the recipe adds from strings of digits."""
    if not run.recipe.pieces and not run.recipe.windows:
        return digits
    from lenet.training.segments import add_segments

    return add_segments(digits, run.recipe.pieces, run.recipe.windows)


def make_sampler(
    run: Run, engine: str, images: Tensor, labels: Tensor
) -> Callable[[int], Sampler | None]:
    """Return a function of the epoch: what distorts the training images, or None for none."""
    if run.recipe.distortions == "none":
        return lambda epoch: None
    from lenet.training.sampling import Sampling

    return Sampling(run.recipe, run.seed, engine, images, labels).epoch


Loader = Iterable[tuple[Tensor, Tensor]]


def training_loop(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    train_loader: Loader,
    valid_loader: Loader | None,
    epochs: int,
    device: torch.device | str,
    print_every: int = 1,
) -> tuple[nn.Module, Optimizer, tuple[list[float], list[float]]]:
    """Train a model; name, arguments and result are those of the notebook behind the report.

    The training loss is a running one: each batch is scored before the step it causes. Validation
    is one pass for both figures.

    Args:
        model: Takes a batch of images, returns logits, or a tuple whose first item is the logits.
        criterion: Mean loss of (logits, labels), such as `nn.CrossEntropyLoss()`.
        optimizer: Steps once a batch.
        train_loader: Any iterable of (images, labels), such as a `DataLoader`.
        valid_loader: The same, scored after each epoch; None to score nothing.
        epochs: How many.
        device: Where the model is; batches are moved there.
        print_every: Print a line every that many epochs; 0 prints nothing.

    Returns:
        (model, optimizer, (train_losses, valid_losses)).

    Raises:
        DivergenceError: The training loss is no longer finite.
        ValueError: The training loader yields nothing.

    Source: github.com/erykml/medium_articles, `Computer Vision/lenet5_pytorch.ipynb`.
    """
    learner = TorchLearner(model, criterion, optimizer)
    train_losses: list[float] = []
    valid_losses: list[float] = []
    for epoch in range(epochs):
        model.train()
        tally = Tally()
        for images, labels in train_loader:
            tally += learner.step(images.to(device), labels.to(device))
        if not tally.num_images:
            raise ValueError("`train_loader` yields no batches")
        require_finite(tally, epoch)
        train_losses.append(tally.loss)
        valid = None
        if valid_loader is not None:
            valid = validate(model, criterion, valid_loader, device)
            valid_losses.append(valid.loss)
        if print_every and epoch % print_every == print_every - 1:
            print(epoch_line(epoch, tally, valid))
    return model, optimizer, (train_losses, valid_losses)


def epoch_line(epoch: int, train: Tally, valid: Tally | None) -> str:
    """Return the line that the notebook's loop prints after an epoch, counted from 0."""
    parts = [f"Epoch: {epoch}", f"Train loss: {train.loss:.4f}"]
    parts += [] if valid is None else [f"Valid loss: {valid.loss:.4f}"]
    parts += [f"Train accuracy: {100 * train.accuracy:.2f}"]
    parts += [] if valid is None else [f"Valid accuracy: {100 * valid.accuracy:.2f}"]
    now = datetime.now().time().replace(microsecond=0)
    return f"{now} --- " + "\t".join(parts)


@torch.no_grad()
def validate(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    loader: Loader,
    device: torch.device | str,
) -> Tally:
    """Return loss and accuracy over a loader, without training."""
    model.eval()
    tally = Tally()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = forward(model, images)
        tally += tally_logits(logits, labels, criterion(logits, labels))
    return tally


def get_accuracy(model: nn.Module, data_loader: Loader, device: torch.device | str) -> Tensor:
    """Return the share of images whose largest logit is the label's.

    Args:
        model: Takes a batch of images, returns logits, or a tuple (logits, probabilities).
        data_loader: Any iterable of (images, labels).
        device: Where the model is; batches are moved there.

    Returns:
        () float32 in 0..1, a tensor as in the notebook.
    """

    def no_loss(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.new_zeros(())

    return torch.tensor(validate(model, no_loss, data_loader, device).accuracy)
