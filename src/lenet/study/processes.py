"""Tasks side by side on this machine, in processes of their own."""

from collections.abc import Generator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

from lenet.errors import RunError
from lenet.parallel import worker_pool
from lenet.study.tasks import LOSSES_OF_ONE_SEED, Outcome, SeedTask, run_task


def share_cores(tasks: Sequence[SeedTask], num_jobs: int, num_cores: int) -> list[SeedTask]:
    """Return the tasks with their numbers of cores: one each, the last ones what is left.

    Example: of three tasks on two cores, two at a time, the third will be alone.
    """
    num_last = len(tasks) % num_jobs or num_jobs
    shares = [num_jobs] * (len(tasks) - num_last) + [num_last] * num_last
    return [
        replace(task, max_cores=max(1, num_cores // share))
        for task, share in zip(tasks, shares, strict=True)
    ]


def run_in_processes(tasks: Sequence[SeedTask], num_jobs: int) -> Generator[Outcome]:
    """Carry tasks out, `num_jobs` at a time; whatever ends this ends the processes at once.

    Raises:
        LeNetError: What would stop every other task as well, or a process was killed.
    """
    try:
        with worker_pool(num_jobs) as pool:
            futures = {pool.submit(run_task, task): task for task in tasks}
            for future in as_completed(futures):
                task = futures[future]
                try:
                    yield task, future.result()
                except LOSSES_OF_ONE_SEED as error:
                    yield task, error
    except BrokenProcessPool:
        raise RunError(
            "a process of this study was killed, perhaps for want of memory; "
            "the same command goes on with what is missing"
        ) from None
