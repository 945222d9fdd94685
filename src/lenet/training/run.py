"""One run: from a recipe and a seed to a run directory with a model and a record.

The directory is whole at every moment. Each file is written under a temporary name and renamed;
the resume state is written after each epoch and holds everything up to it, so a run killed at
any point goes on from its last whole epoch and ends with the same model, byte for byte.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from lenet import __version__
from lenet.checkpoint import MODEL_FILE, ModelCard, load_state, save_model, save_state
from lenet.data.digits import Digits, batches, load, split_validation
from lenet.device import choose_device, describe_device
from lenet.errors import CheckpointError, LeNetError, RecipeError, RunError
from lenet.evaluation import Scores, compute_logits, score_logits
from lenet.files import remove_temporaries, replacing, write_text
from lenet.models import MODELS, LeNet5
from lenet.recipes import Recipe, from_dict
from lenet.records import (
    METRICS_FILE,
    RECORD_FILE,
    EpochScores,
    RunRecord,
    command_line,
    environment,
    read_json,
    read_run_record,
    write_metrics,
    write_record,
)
from lenet.training.loop import EpochResult, Tally, training_loop
from lenet.training.losses import LOSSES
from lenet.training.optimizers import OPTIMIZERS
from lenet.training.schedules import lr_factor

RECIPE_FILE = "recipe.json"
STATE_FILE = "resume.pt"
PREDICTIONS_FILE = "predictions.safetensors"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory and what is to be trained in it."""

    path: Path
    recipe_name: str
    recipe: Recipe
    seed: int

    @property
    def is_finished(self) -> bool:
        """Whether the record, the last file written, is there."""
        return (self.path / RECORD_FILE).is_file()

    @property
    def num_epochs_done(self) -> int:
        """Whole epochs that a resume would not repeat."""
        try:
            return len((self.path / METRICS_FILE).read_text(encoding="utf-8").splitlines())
        except OSError:
            return 0


class Watcher(Protocol):
    """What a run tells whoever watches it; every method returns at once."""

    def download(self, name: str, num_bytes: int, total_bytes: int | None) -> None:
        """Called as a file of the data set arrives."""

    def start(self, run: Run, device: str, num_images: int, num_epochs_done: int) -> None:
        """Called when training begins or goes on."""

    def batch(self, epoch: int, tally: Tally) -> None:
        """Called after each step; `epoch` is 0 for the first."""

    def epoch(self, scores: EpochScores) -> None:
        """Called after each epoch, when its state is safe on the disk."""


def create_run(path: Path, recipe_name: str, recipe: Recipe, seed: int) -> Run:
    """Make a run directory.

    Raises:
        RunError: The folder holds a run or other files, or can't be made.
    """
    if not 0 <= seed < 2**32:
        raise RecipeError(f"`seed` (={seed}) must be between 0 and 2**32 - 1")
    content = {"recipe_name": recipe_name, "seed": seed, "recipe": asdict(recipe)}
    with _errors_named(path):
        path.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path)
        if any(path.iterdir()):
            is_run = (path / RECIPE_FILE).is_file()
            raise RunError(
                f"{path}: expected a new or empty folder, found "
                + ("a run; `--resume` goes on with it" if is_run else "other files")
                + ", `--out` names another folder"
            )
        write_text(path / RECIPE_FILE, json.dumps(content, indent=1) + "\n")
    return Run(path=path, recipe_name=recipe_name, recipe=recipe, seed=seed)


def open_run(path: Path) -> Run:
    """Read a run directory's recipe.

    Raises:
        RunError: Not a run directory.
        RecipeError: Its recipe is not one of this version.
    """
    file = path / RECIPE_FILE
    if not file.is_file():
        raise RunError(f"{path}: not a run directory: no {RECIPE_FILE} in it")
    content = read_json(file)
    try:
        name, seed, values = content["recipe_name"], content["seed"], content["recipe"]
    except (TypeError, KeyError):
        raise RunError(
            f"{file}: expected the keys recipe_name, seed and recipe, found otherwise"
        ) from None
    if not isinstance(name, str) or type(seed) is not int:
        raise RunError(f"{file}: expected a string `recipe_name` and an integer `seed`")
    recipe = from_dict(values, source=str(file))
    return Run(path=path, recipe_name=name, recipe=recipe, seed=seed)


def train(
    run: Run,
    *,
    device: str = "auto",
    num_threads: int = 1,
    data_dir: Path | None = None,
    watcher: Watcher | None = None,
) -> RunRecord:
    """Train, or go on training, what a run directory asks for, and write its results there.

    Args:
        run: From `create_run` or `open_run`. A finished run is returned as it is.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        num_threads: CPU threads. With one, a seed's figures do not depend on the number of
            cores, and a busy machine does not stall a step; two gain a fifth on an idle one
            (docs/decisions.md). 0 leaves torch's setting.
        data_dir: Folder with the data set's files; see `lenet.data`.
        watcher: Told what happens.

    Returns:
        The record, as it stands in record.json.

    Raises:
        DownloadError: The data set can't be had.
        CheckpointError: The resume state is damaged or of another run.
        DivergenceError: The training loss is no longer finite.
        RunError: Another process trains here, or the folder can't be written.
    """
    lock = FileLock(run.path / ".lock")
    try:
        with _errors_named(run.path), lock.acquire(timeout=0):
            if run.is_finished:
                return read_run_record(run.path / RECORD_FILE)
            remove_temporaries(run.path)
            with _threads(num_threads):
                return _Session(run, choose_device(device), data_dir, watcher).run_to_end()
    except Timeout:
        raise RunError(f"{run.path}: another process is training here") from None


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Say of which run it is that a file can't be written."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if isinstance(error, LeNetError):
            raise
        raise RunError(
            f"{path}: can't write this run: {error.strerror or error}; "
            "when the cause is gone, `lenet train --resume --out` with this folder goes on"
        ) from None


class _Session:
    """One process's part in a run: the data, the model and the optimizer between two stops."""

    def __init__(
        self, run: Run, device: torch.device, data_dir: Path | None, watcher: Watcher | None
    ) -> None:
        self.run, self.device, self.watcher = run, device, watcher
        recipe = run.recipe
        progress = None if watcher is None else watcher.download
        data = load(recipe.dataset, "train", data_dir=data_dir, progress=progress)
        self.test = load(recipe.dataset, "test", data_dir=data_dir, progress=progress)
        self.val: Digits | None = None
        self.train = data
        if recipe.num_val:
            if recipe.num_val >= len(data):
                raise RecipeError(
                    f"`num_val` (={recipe.num_val}) must be less than the {len(data)} "
                    "training images"
                )
            self.train, self.val = split_validation(data, recipe.num_val)
        self.data_sha256 = {digits.split: _fingerprint(digits) for digits in (data, self.test)}
        # What a resumed run must find unchanged.
        self.identity = {"recipe": asdict(recipe), "seed": run.seed, "data": self.data_sha256}
        self.model = build_model(recipe, run.seed, num_classes=len(data.classes)).to(device)
        self.optimizer: Optimizer = OPTIMIZERS[recipe.optimizer](
            list(self.model.parameters()), recipe.lr, recipe.weight_decay
        )
        self.epochs: list[EpochScores] = []
        self.num_sessions = 1
        self._restore()

    def _restore(self) -> None:
        path = self.run.path / STATE_FILE
        if not path.exists():
            return
        state = load_state(path)
        try:
            if state["identity"] != self.identity:
                changed = [k for k in self.identity if state["identity"][k] != self.identity[k]]
                raise CheckpointError(
                    f"{path}: was written for another {' and '.join(changed)} than this run's"
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epochs = [EpochScores(**epoch) for epoch in state["epochs"]]
            self.num_sessions = state["num_sessions"] + 1
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"{path}: not a resume state of this version of lenet ({error}); "
                "delete it to train from the start"
            ) from None
        # The state is the truth; a kill may have come before the line or between the two.
        write_metrics(self.run.path / METRICS_FILE, self.epochs)

    def run_to_end(self) -> RunRecord:
        recipe, run = self.run.recipe, self.run
        images, labels = self.train.images.to(self.device), self.train.labels.to(self.device)
        steps = math.ceil(len(images) / recipe.batch_size)
        warmup = round(recipe.warmup_epochs * steps)

        def lr_at(epoch: int, index: int) -> float:
            return recipe.lr * lr_factor(
                recipe.schedule,
                epoch * steps + index,
                num_steps=recipe.epochs * steps,
                num_warmup_steps=warmup,
            )

        def train_loader(epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
            return batches(images, labels, batch_size=recipe.batch_size, seed=run.seed, epoch=epoch)

        if self.watcher is not None:
            self.watcher.start(run, describe_device(self.device), len(images), len(self.epochs))
        with _deterministic(self.device):
            training_loop(
                self.model,
                LOSSES[recipe.loss](recipe.label_smoothing),
                self.optimizer,
                train_loader,
                self._valid_loader(),
                recipe.epochs,
                self.device,
                print_every=0,
                first_epoch=len(self.epochs),
                lr_at=lr_at,
                on_batch=None if self.watcher is None else self.watcher.batch,
                on_epoch=self._keep,
            )
        return self._finish()

    def _valid_loader(self) -> Callable[[int], Iterable[tuple[Tensor, Tensor]]] | None:
        digits = self.test if self.run.recipe.test_as_validation else self.val
        if digits is None:
            return None
        images, labels = digits.images.to(self.device), digits.labels.to(self.device)
        return lambda epoch: batches(
            images, labels, batch_size=1000, seed=0, epoch=0, shuffle=False
        )

    def _keep(self, result: EpochResult) -> None:
        """Put an epoch on the disk, then say so."""
        split = "test" if self.run.recipe.test_as_validation else "val"
        scores = EpochScores(
            epoch=result.epoch + 1,
            train_loss=result.train_loss,
            train_accuracy=result.train_accuracy,
            lr=result.lr,
            duration_s=result.duration_s,
            images_per_s=result.num_images / result.train_s,
            **{f"{split}_loss": result.valid_loss, f"{split}_accuracy": result.valid_accuracy},
        )
        self.epochs.append(scores)
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "num_sessions": self.num_sessions,
        }
        save_state(self.run.path / STATE_FILE, state)
        write_metrics(self.run.path / METRICS_FILE, self.epochs)
        if self.watcher is not None:
            self.watcher.epoch(scores)

    def _finish(self) -> RunRecord:
        """Score the finished model, once, and write model, predictions and record."""
        run, scores = self.run, {}
        for digits in (self.train, self.val, self.test):
            if digits is None:
                continue
            logits = compute_logits(self.model, digits.images, device=self.device)
            scores[digits.split] = score_logits(logits, digits.labels, split=digits.split)
        with replacing(run.path / PREDICTIONS_FILE) as temporary:
            # The test split came last: these are its logits.
            save_file({"logits": logits, "labels": self.test.labels}, temporary)
        save_model(run.path / MODEL_FILE, self.model, self._card(scores))
        record = self._record(scores)
        write_record(run.path / RECORD_FILE, record)
        return record

    def _card(self, scores: dict[str, Scores]) -> ModelCard:
        run = self.run
        return ModelCard(
            model=run.recipe.model,
            config=self.model.config(),
            classes=self.train.classes,
            dataset=run.recipe.dataset,
            recipe_name=run.recipe_name,
            recipe=asdict(run.recipe),
            seed=run.seed,
            epochs=len(self.epochs),
            scores={f"{split}_accuracy": score.accuracy for split, score in scores.items()},
            lenet_version=__version__,
        )

    def _record(self, scores: dict[str, Scores]) -> RunRecord:
        run, val = self.run, scores.get("val")
        return RunRecord(
            recipe_name=run.recipe_name,
            recipe=asdict(run.recipe),
            seed=run.seed,
            train_accuracy=scores["train"].accuracy,
            train_loss=scores["train"].loss,
            test_accuracy=scores["test"].accuracy,
            test_loss=scores["test"].loss,
            val_accuracy=None if val is None else val.accuracy,
            val_loss=None if val is None else val.loss,
            num_parameters=sum(p.numel() for p in self.model.parameters()),
            num_train_images=len(self.train),
            epochs=tuple(self.epochs),
            scores={split: asdict(score) for split, score in scores.items()},
            training_s=sum(epoch.duration_s for epoch in self.epochs),
            num_sessions=self.num_sessions,
            device=describe_device(self.device),
            data_sha256=self.data_sha256,
            environment=environment(),
            command=command_line(),
        )


def build_model(recipe: Recipe, seed: int, *, num_classes: int = 10) -> LeNet5:
    """Return the recipe's network with the seed's initial weights, on the CPU.

    The weights are PyTorch's defaults, drawn after `torch.manual_seed(seed)` as in the notebook;
    the caller's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[recipe.model](
            num_classes,
            activation=recipe.activation,
            pooling=recipe.pooling,
            resize=recipe.resize,
            background=recipe.background,
            ink=recipe.ink,
        )


def _fingerprint(digits: Digits) -> str:
    """Return the SHA-256 of the pixels, then the labels."""
    digest = hashlib.sha256(digits.images.numpy().data)
    digest.update(digits.labels.numpy().data)
    return digest.hexdigest()


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Ask CUDA for the algorithms that give the same bits each time; others do already."""
    if device.type != "cuda":
        yield
        return
    # cuBLAS reads this when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
