"""A run directory: what is to be trained in it, how far it has come, and its resume state.

The directory is whole at every moment. Each file is written under a temporary name and renamed;
the resume state is written after each epoch and holds everything up to it, so a run killed at
any point continues from its last whole epoch and ends with the same model, byte for byte.
"""

import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from filelock import FileLock, Timeout

from lenet.errors import CheckpointError, LeNetError, RecipeError, RunError
from lenet.files import TEMPORARY_SUFFIX, remove_temporaries, replacing, write_text
from lenet.models import Network
from lenet.schema import METRICS_FILE, RECORD_FILE, EpochScores, RunFile, read, to_json, write
from lenet.training.learners import TorchLearner
from lenet.training.recipe import Recipe, from_dict

RECIPE_FILE = "recipe.json"
STATE_FILE = "resume.pt"
OWN_FILE = "own.safetensors"
"""The user's own pictures, as digits; see lenet.training.own."""
START_FILE = "start.safetensors"
"""The model whose weights the run begins with."""
LOCK_FILE = ".lock"
MAX_STATE_BYTES = 64 * 2**20
"""No state of a network here is near this size."""

T = TypeVar("T")


@dataclass(kw_only=True)
class Progress:
    """How far a run has come."""

    identity: dict[str, Any]
    """What a resumed run must find unchanged: recipe, seed and the hashes of its data."""
    epochs: list[EpochScores] = field(default_factory=list)
    num_sessions: int = 1
    """Processes, one after the other, that trained it."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory and what is to be trained in it."""

    path: Path
    recipe_name: str
    recipe: Recipe
    seed: int
    images: str | None = None
    """The user's own pictures, as named on the command line; copied into the folder."""
    start: str | None = None
    """The model whose weights the run begins with; copied too."""
    # One process trains a run, unless `torchrun` starts several: see lenet.training.shared.
    rank: int = 0
    world_size: int = 1
    num_local: int = 1
    """Processes of the run on this machine."""
    device: torch.device | None = None
    """What this process computes on, where `torchrun` decides it."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    @property
    def is_finished(self) -> bool:
        """Whether the record, the last file written, is there."""
        return (self.path / RECORD_FILE).is_file()

    @property
    def is_locked(self) -> bool:
        """Whether a process trains here now."""
        try:
            with self._lock().acquire(timeout=0):
                return False
        except Timeout:
            return True

    @property
    def num_epochs_done(self) -> int:
        """Whole epochs that a resume would not repeat."""
        try:
            return len((self.path / METRICS_FILE).read_text(encoding="utf-8").splitlines())
        except OSError:
            return 0

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the directory for this process alone while it trains.

        Raises:
            RunError: Another process trains here, or a file can't be written.
        """
        try:
            with errors_named(self.path), self._lock().acquire(timeout=0):
                remove_temporaries(self.path)
                yield
        except Timeout:
            raise RunError(f"{self.path}: another process is training here") from None

    def _lock(self) -> FileLock:
        # The system frees it when the process ends, however it ends.
        return FileLock(self.path / LOCK_FILE)

    def restore(self, learner: TorchLearner, data_sha256: dict[str, str]) -> Progress:
        """Return how far the run has come, and give the learner its state from then.

        Raises:
            CheckpointError: The state is damaged, or of another run.
        """
        path = self.path / STATE_FILE
        progress = Progress(
            identity={"recipe": asdict(self.recipe), "seed": self.seed, "data": data_sha256}
        )
        state = self.from_first(lambda: load_state(path) if path.exists() else None)
        if state is None:
            return progress
        try:
            self._require_same(progress.identity, state["identity"])
            learner.load_state_dict(state)
            progress.epochs = msgspec.convert(state["epochs"], list[EpochScores])
            if not 0 < len(progress.epochs) <= self.recipe.epochs:
                raise ValueError(f"{len(progress.epochs)} of {self.recipe.epochs} epochs")
            progress.num_sessions = msgspec.convert(state["num_sessions"], int) + 1
        except CheckpointError:
            raise
        except Exception as error:  # torch's loaders raise anything for content of the wrong form
            raise CheckpointError(
                f"{path}: not a resume state of this run ({type(error).__name__}: {error}); "
                "delete it to train from the start"
            ) from None
        # The state is the truth; a kill may have come between the two files.
        if self.is_first:
            self._write_metrics(progress)
        return progress

    def _require_same(self, expected: dict[str, Any], found: dict[str, Any]) -> None:
        # A recipe of an earlier version may have had more fields.
        recipe = {name: found["recipe"].get(name) for name in expected["recipe"]}
        found = {**found, "recipe": recipe}
        changed = [name for name in expected if expected[name] != found[name]]
        if changed:
            raise CheckpointError(
                f"{self.path / STATE_FILE}: was written for another {' and '.join(changed)} than "
                "this run's"
            )

    def save_epoch(self, learner: TorchLearner, progress: Progress) -> None:
        """Write the resume state, then metrics.jsonl, each whole or not at all."""
        epochs = [asdict(epoch) for epoch in progress.epochs]
        state = {**vars(progress), "epochs": epochs, **learner.state_dict()}
        save_state(self.path / STATE_FILE, state)
        self._write_metrics(progress)

    def _write_metrics(self, progress: Progress) -> None:
        """Write metrics.jsonl, a line an epoch, whole or not at all."""
        lines = [to_json(epoch) + "\n" for epoch in progress.epochs]
        write_text(self.path / METRICS_FILE, "".join(lines))

    def load_start(self, model: Network) -> None:
        """Give a network the weights of the model that the run was asked to begin with, if any."""
        if self.start is not None:
            from lenet.training.own import load_start

            load_start(self, model)

    def start_temperature(self) -> float | None:
        """Return the temperature of the model that the run began with, if it has one."""
        if self.start is None:
            return None
        from lenet.training.own import start_temperature

        return start_temperature(self)

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what a function returns in the first process, in all of them."""
        return make()

    def share(self, learner: TorchLearner) -> TorchLearner:
        """Return the learner of this process's part of each batch."""
        return learner


def create_run(
    path: Path,
    recipe_name: str,
    recipe: Recipe,
    seed: int,
    *,
    images: str | None = None,
    start: str | None = None,
) -> Run:
    """Make a run directory.

    Raises:
        RunError: The folder holds a run or other files, or can't be made.
    """
    if not 0 <= seed < 2**32:
        raise RecipeError(f"`seed` (={seed}) must be between 0 and 2**32 - 1")
    content = RunFile(
        recipe_name=recipe_name, seed=seed, recipe=asdict(recipe), images=images, start=start
    )
    with errors_named(path):
        path.mkdir(parents=True, exist_ok=True)
        # Half-written files are left alone: they may be those of a process that trains here.
        if any(file.suffix != TEMPORARY_SUFFIX for file in path.iterdir()):
            is_run = (path / RECIPE_FILE).is_file()
            raise RunError(
                f"{path}: expected a new or empty folder, found "
                + ("a run; `--resume` goes on with it" if is_run else "other files")
                + ", `--out` names another folder"
            )
        write(path / RECIPE_FILE, content)
    return open_run(path)


def open_run(path: Path) -> Run:
    """Read a run directory's recipe.

    Raises:
        RunError: Not a run directory.
        RecipeError: Its recipe is not one of this version.
    """
    file = path / RECIPE_FILE
    if not file.is_file():
        raise RunError(f"{path}: not a run directory: no {RECIPE_FILE} in it")
    content = read(file, RunFile)
    recipe = from_dict(content.recipe, source=str(file))
    return Run(
        path=path,
        recipe_name=content.recipe_name,
        recipe=recipe,
        seed=content.seed,
        # Version 0.1 copied them without a note in recipe.json.
        images=content.images or _name_of(path / OWN_FILE),
        start=content.start or _name_of(path / START_FILE),
    )


def _name_of(path: Path) -> str | None:
    return path.name if path.is_file() else None


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
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


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a resume state (plain values and tensors), whole or not at all."""
    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's own, such as for a full disk
            raise OSError(f"{path.name}: {error}") from None


def load_state(path: Path) -> dict[str, Any]:
    """Read a resume state; only plain values and tensors are admitted.

    Raises:
        CheckpointError: The file is damaged, too large or holds anything else.
    """
    size = path.stat().st_size
    if size > MAX_STATE_BYTES:
        raise CheckpointError(
            f"{path}: expected a resume state of at most {MAX_STATE_BYTES:,} bytes, found {size:,}"
        )
    try:
        with warnings.catch_warnings():
            # torch warns of a foreign pickle before it refuses it; the error below says enough.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: expected a resume state of plain values and tensors, found: {reason}; "
            "delete it to train from the start"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: expected a resume state, found {type(state).__name__}")
    return state
