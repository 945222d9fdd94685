"""The unit of a study: one seed of one recipe, trained in a run directory of its own.

A task that was stopped goes on where its run directory is, so whoever carries tasks out (processes
of this machine, a cluster) may stop them at any time and hand them out again.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lenet.errors import CheckpointError, DivergenceError, LeNetError, RunError
from lenet.schema import RunRecord
from lenet.training.recipe import Recipe

LOSSES_OF_ONE_SEED = (DivergenceError, RunError, CheckpointError)
"""Errors after which other seeds may well succeed; after any other they would fail alike."""


@dataclass(frozen=True, kw_only=True)
class SeedTask:
    """What to train, and where."""

    path: Path
    """Run directory."""
    recipe_name: str
    recipe: Recipe
    seed: int
    device: str = "auto"
    """As for `lenet.training.train`."""
    engine: str = "auto"
    """Likewise."""
    max_cores: int = 1
    """Likewise; changes no result."""
    data_dir: Path | None = None
    """Likewise."""


Outcome = tuple[SeedTask, RunRecord | LeNetError]
Executor = Callable[[Sequence[SeedTask]], Generator[Outcome]]
"""Carries tasks out and yields each with its record, or the error that ended it, as it ends."""


class StudyWatcher(Protocol):
    """Told how a study goes."""

    def start(self, tasks: Sequence[SeedTask], num_jobs: int) -> None:
        """Called first; tasks are begun in this order, `num_jobs` at a time."""

    def end(self, task: SeedTask, outcome: RunRecord | LeNetError) -> None:
        """Called as each task ends."""


def run_task(task: SeedTask) -> RunRecord:
    """Train a task, or go on with it; a finished one gives its record at once.

    Raises:
        RunError: The folder holds a run of another recipe or seed.
        LeNetError: Whatever stopped the run.
    """
    from lenet.training.loop import train
    from lenet.training.run import create_run, open_run

    if (task.path / "recipe.json").is_file():
        run = open_run(task.path)
        if run.recipe != task.recipe or run.seed != task.seed:
            raise RunError(
                f"{task.path}: holds a run of another recipe or seed; name another folder"
            )
    else:
        run = create_run(task.path, task.recipe_name, task.recipe, task.seed)
    return train(
        run,
        device=task.device,
        engine=task.engine,
        max_cores=task.max_cores,
        data_dir=task.data_dir,
    )
