"""One run: from a recipe and a seed to a run directory with a model and a record.

The directory is whole at every moment. Each file is written under a temporary name and renamed;
the resume state is written after each epoch and holds everything up to it, so a run killed at
any point goes on from its last whole epoch and ends with the same model, byte for byte.
"""

# Over 300 lines: one run from its data to its record, read from top to bottom.

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import msgspec
import torch
from filelock import Timeout
from torch import Tensor

from lenet.data.digits import batches
from lenet.errors import CheckpointError, RecipeError, RunError
from lenet.files import remove_temporaries
from lenet.models.files import load_state, save_state
from lenet.parallel import num_cores
from lenet.results.records import METRICS_FILE, RECORD_FILE, read_run_record, write_metrics
from lenet.results.scores import compute_logits
from lenet.schema import EpochScores, RunRecord
from lenet.training.averaging import WeightAverage
from lenet.training.committee import Committee, assemble, time_of, train_teachers
from lenet.training.device import choose_device, describe_device
from lenet.training.engines import (
    build_optimizer,
    choose_engine,
    describe_engine,
    logits_by,
    torch_threads,
)
from lenet.training.loop import EpochResult, Tally, training_loop
from lenet.training.losses import LOSSES, rubbish_penalty
from lenet.training.outcome import write_results
from lenet.training.own import load_start
from lenet.training.pieces import add_strings, fold_rubbish
from lenet.training.reproducible import build_model, deterministic, threads
from lenet.training.run import Run, errors_named
from lenet.training.sampling import Sampling
from lenet.training.shared import ALONE, Group
from lenet.training.splits import load_splits
from lenet.training.stepping import Stepping
from lenet.training.watcher import Watcher

STATE_FILE = "resume.pt"


def train(
    run: Run,
    *,
    device: str = "auto",
    engine: str = "auto",
    num_threads: int = 0,
    max_cores: int = 0,
    data_dir: Path | None = None,
    watcher: Watcher | None = None,
    group: Group = ALONE,
) -> RunRecord:
    """Train, or go on training, what a run directory asks for, and write its results there.

    Args:
        run: From `create_run` or `open_run`. A finished run is returned as it is.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        engine: "auto", "native" (compiled kernels, on the CPU) or "torch".
        num_threads: CPU threads; 0 for one a core with the native engine, whose results do
            not depend on it, and one with torch's, whose results do.
        max_cores: What the native engine takes where `num_threads` is 0, in a process that shares
            the machine with others; 0 for all. torch's engine takes one in any case.
        data_dir: Folder with the data set's files; see `lenet.data`.
        watcher: Told what happens.
        group: The processes that share the run; each calls this, the first one's `run` counts.

    Returns:
        The record, as it stands in record.json.

    Raises:
        DownloadError: The data set can't be had.
        CheckpointError: The resume state is damaged or of another run.
        DivergenceError: The training loss is no longer finite.
        RunError: Another process trains here, or the folder can't be written.
    """
    try:
        with errors_named(run.path), _claimed(run, group):
            if group.from_first(lambda: run.is_finished):
                return group.from_first(lambda: read_run_record(run.path / RECORD_FILE))
            train_one = partial(
                train,
                device=device,
                engine=engine,
                num_threads=num_threads,
                max_cores=max_cores,
                data_dir=data_dir,
                watcher=watcher,
            )
            if group.world_size > 1 and run.recipe.teachers:
                raise RecipeError(
                    f"`teachers` (={run.recipe.teachers}) are trained by one process: without "
                    "torchrun"
                )
            teachers = train_teachers(run, train_one)
            with threads(1):
                session = _Session(
                    run,
                    teachers,
                    group.device or choose_device(device),
                    engine,
                    num_threads or max_cores or max(1, num_cores() // group.num_local),
                    data_dir,
                    watcher,
                    group,
                )
                torch.set_num_threads(torch_threads(session.engine, num_threads))
                return session.run_to_end()
    except Timeout:
        raise RunError(f"{run.path}: another process is training here") from None


@contextmanager
def _claimed(run: Run, group: Group) -> Iterator[None]:
    """Hold the run directory, in the one process that uses it."""
    if not group.is_first:
        yield
        return
    with run.lock().acquire(timeout=0):
        remove_temporaries(run.path)
        yield


class _Session:
    """One process's part in a run: the data, the model and the optimizer between two stops."""

    def __init__(
        self,
        run: Run,
        teachers: Sequence[Run],
        device: torch.device,
        engine: str,
        num_threads: int,
        data_dir: Path | None,
        watcher: Watcher | None,
        group: Group,
    ) -> None:
        self.run, self.device, self.watcher, self.group = run, device, watcher, group
        recipe = run.recipe
        progress = None if watcher is None else watcher.download
        splits = load_splits(run, data_dir=data_dir, progress=progress)
        self.train, self.val, self.test = splits.train, splits.val, splits.test
        self.calibration = splits.calibration
        self.data_sha256 = splits.sha256
        # What a resumed run must find unchanged.
        self.identity = {"recipe": asdict(recipe), "seed": run.seed, "data": self.data_sha256}
        self.material = add_strings(self.train, recipe.pieces, recipe.windows)
        num_classes = len(self.material.classes)
        self.model = build_model(recipe, run.seed, num_classes=num_classes)
        load_start(run, self.model)
        self.model = self.model.to(device)
        self.engine = choose_engine(
            engine,
            self.model,
            label_smoothing=recipe.label_smoothing,
            rubbish=rubbish_penalty(LOSSES[recipe.loss](0.0, recipe.map_j)),
            num_threads=num_threads,
        )
        self.takes_bytes = self.engine is not None
        self.average = WeightAverage(self.model, recipe.ema) if recipe.ema else None
        self.result = self.model if self.average is None else self.average.model
        self.logits = logits_by(self.engine, self.result)
        self.teachers = teachers
        self.sampling = Sampling(recipe, run.seed, engine, device)
        self.optimizer = build_optimizer(recipe, list(self.model.parameters()), self.engine)
        self.epochs: list[EpochScores] = []
        self.num_sessions = 1
        self._restore()

    def _restore(self) -> None:
        path = self.run.path / STATE_FILE
        state = self.group.from_first(lambda: load_state(path) if path.exists() else None)
        if state is None:
            return
        try:
            if state["identity"] != self.identity:
                changed = [k for k in self.identity if state["identity"][k] != self.identity[k]]
                raise CheckpointError(
                    f"{path}: was written for another {' and '.join(changed)} than this run's"
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.epochs = msgspec.convert(state["epochs"], list[EpochScores])
            if not 0 < len(self.epochs) <= self.run.recipe.epochs:
                raise ValueError(f"{len(self.epochs)} of {self.run.recipe.epochs} epochs")
            self.num_sessions = msgspec.convert(state["num_sessions"], int) + 1
        except CheckpointError:
            raise
        except Exception as error:  # torch's loaders raise anything for content of the wrong form
            raise CheckpointError(
                f"{path}: not a resume state of this run ({type(error).__name__}: {error}); "
                "delete it to train from the start"
            ) from None
        # The state is the truth; a kill may have come before the line or between the two.
        if self.group.is_first:
            write_metrics(self.run.path / METRICS_FILE, self.epochs)

    def _committee(self, images: Tensor, labels: Tensor) -> Committee | None:
        return assemble(
            self.run,
            self.teachers,
            self.engine,
            self.sampling,
            images,
            labels,
            len(self.material.classes),
            self.data_sha256,
        )

    def run_to_end(self) -> RunRecord:
        recipe, run = self.run.recipe, self.run
        images, labels = self.material.images.to(self.device), self.material.labels.to(self.device)
        committee = self._committee(images, labels)
        answers = labels if committee is None else committee.places
        stepping = Stepping(
            recipe, run.seed, self.model, self.optimizer, self.engine, images, committee, self.group
        )

        def train_loader(epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
            return batches(
                images,
                answers,
                batch_size=stepping.images_a_batch,
                seed=run.seed,
                epoch=stepping.order_of(epoch),
                rank=self.group.rank,
                world_size=self.group.world_size,
                as_bytes=self.takes_bytes,
                sample=self.sampling.epoch(images, labels, epoch, answers=answers),
            )

        if self.watcher is not None:
            where = f"{self._place()}, {describe_engine(self.engine)} engine"
            self.watcher.start(run, where, len(images), len(self.epochs))
        with deterministic(self.device):
            training_loop(
                self.model,
                stepping.criterion,
                self.optimizer,
                train_loader,
                self._valid_loader(),
                recipe.epochs,
                self.device,
                print_every=0,
                first_epoch=len(self.epochs),
                lr_at=stepping.lr_at,
                gradients=stepping.gradients,
                learn=stepping.learn,
                predict=self.logits,
                measure=stepping.measure,
                before_epoch=stepping.before_epoch,
                on_batch=self._after_batch,
                on_epoch=self._keep,
            )
        return self.group.from_first(self._finish)

    def _valid_loader(self) -> Callable[[int], Iterable[tuple[Tensor, Tensor]]] | None:
        digits = self.test if self.run.recipe.test_as_validation else self.val
        if digits is None or not self.group.is_first:
            return None
        images, labels = digits.images.to(self.device), digits.labels.to(self.device)
        return lambda epoch: batches(
            images, labels, batch_size=1000, shuffle=False, as_bytes=self.takes_bytes
        )

    def _after_batch(self, epoch: int, tally: Tally) -> None:
        if self.average is not None:
            self.average.update()
        if self.watcher is not None:
            self.watcher.batch(epoch, tally)

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
        if not self.group.is_first:
            return
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "num_sessions": self.num_sessions,
        }
        save_state(self.run.path / STATE_FILE, state)
        write_metrics(self.run.path / METRICS_FILE, self.epochs)
        if self.watcher is not None:
            self.watcher.epoch(scores)

    def _place(self) -> str:
        """Return where the run computes, for people."""
        place, number = describe_device(self.device), self.group.world_size
        return place if number == 1 else f"{place}, {number} processes"

    def _finish(self) -> RunRecord:
        """Score the finished model, once, and write model, predictions and record."""
        has_rubbish = len(self.material.classes) > len(self.train.classes)

        def logits_of(images: Tensor) -> Tensor:
            logits = compute_logits(
                self.logits, images, device=self.device, takes_bytes=self.takes_bytes
            )
            return logits[:, :-1] - logits[:, -1:] if has_rubbish else logits

        return write_results(
            self.run,
            fold_rubbish(self.result) if has_rubbish else self.result,
            [digits for digits in (self.train, self.val, self.test) if digits is not None],
            self.epochs,
            calibration=self.calibration,
            logits_of=logits_of,
            earlier_s=time_of(self.teachers),
            num_sessions=self.num_sessions,
            device=self._place(),
            engine=describe_engine(self.engine),
            data_sha256=self.data_sha256,
        )
