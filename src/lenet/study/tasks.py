"""The tasks of a study, and training them in processes of this machine.

A task is one seed of one recipe, trained in a run directory of its own. A task that was stopped
continues from its run directory, so an executor may stop tasks at any time and start them again.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from lenet.errors import CheckpointError, DivergenceError, LeNetError, RunError
from lenet.parallel import worker_pool
from lenet.schema import RunRecord
from lenet.training.loop import train
from lenet.training.recipe import Recipe
from lenet.training.run import RECIPE_FILE, create_run, open_run

ERRORS_OF_ONE_SEED = (DivergenceError, RunError, CheckpointError)
"""Errors after which other seeds may well succeed; any other would stop them too."""


@dataclass(frozen=True, kw_only=True)
class SeedTask:
    """What to train, and where; see `lenet.training.loop.train`."""

    path: Path
    """Run directory."""
    recipe_name: str
    recipe: Recipe
    seed: int
    device: str = "auto"
    engine: str = "auto"
    max_cores: int = 1
    """Changes no result."""
    data_dir: Path | None = None


Outcome = tuple[SeedTask, RunRecord | LeNetError]
"""A task, and its record or the error that ended it."""
Executor = Callable[[Sequence[SeedTask]], Generator[Outcome]]
"""Trains tasks and yields each outcome as the task ends."""


def run_task(task: SeedTask) -> RunRecord:
    """Train a task or continue it, and return its record; at once if it is finished.

    Raises:
        RunError: The folder holds a run of another recipe or seed.
        LeNetError: The run failed.
    """
    if (task.path / RECIPE_FILE).is_file():
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


def share_cores(tasks: Sequence[SeedTask], num_jobs: int, num_cores: int) -> list[SeedTask]:
    """Return the tasks with their numbers of cores: the last round, if short, has more each.

    Example: of three tasks on two cores, two at a time, the third runs alone on both.
    """
    num_last = len(tasks) % num_jobs or num_jobs
    shares = [num_jobs] * (len(tasks) - num_last) + [num_last] * num_last
    return [
        replace(task, max_cores=max(1, num_cores // share))
        for task, share in zip(tasks, shares, strict=True)
    ]


def run_in_processes(tasks: Sequence[SeedTask], num_jobs: int) -> Generator[Outcome]:
    """Train tasks, `num_jobs` at a time; closing the generator ends the processes at once.

    Raises:
        LeNetError: An error that would stop every other task as well, or a process was killed.
    """
    try:
        with worker_pool(num_jobs) as pool:
            futures = {pool.submit(run_task, task): task for task in tasks}
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except ERRORS_OF_ONE_SEED as error:
                    yield futures[future], error
    except BrokenProcessPool:
        raise RunError(
            "a process of this study was killed, perhaps for want of memory; "
            "the same command continues with what is missing"
        ) from None
