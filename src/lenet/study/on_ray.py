"""Tasks on a Ray cluster: each seed goes to a core that is free, on whichever machine.

A run directory that all machines can see lets a run whose machine was lost go on from its last
epoch; without one it begins again. Either way its files come back to who asked for the study.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lenet.errors import LeNetError, RunError
from lenet.files import write_bytes
from lenet.parallel import connected, reason_of
from lenet.results.records import RECORD_FILE
from lenet.schema import RunRecord
from lenet.study.tasks import LOSSES_OF_ONE_SEED, Outcome, SeedTask, run_task

MAX_RETRIES = 20
"""Of one seed, whose process or machine was lost."""


def run_on_ray(tasks: Sequence[SeedTask], address: str) -> Generator[Outcome]:
    """Carry tasks out on a cluster; whatever ends this ends the tasks.

    Args:
        tasks: On a GPU if their device asks for CUDA, a core each otherwise.
        address: As for `lenet.parallel.connected`.

    Raises:
        ClusterError: There is no such cluster.
        LeNetError: What would stop every other task as well.
    """
    with connected(address) as ray:
        gpus = 1 if tasks[0].device.startswith("cuda") else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)(_run_there)
        waiting: dict[Any, SeedTask] = {remote.remote(_for_elsewhere(task)): task for task in tasks}
        try:
            while waiting:
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(done)
                try:
                    outcome, found = ray.get(done)
                except ray.exceptions.RayError as error:
                    yield task, RunError(f"lost on the cluster: {reason_of(error)}")
                    continue
                if isinstance(outcome, LeNetError):
                    if not isinstance(outcome, LOSSES_OF_ONE_SEED):
                        raise outcome
                else:
                    _keep(task.path, found)
                yield task, outcome
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)


def _for_elsewhere(task: SeedTask) -> SeedTask:
    """Return a task whose paths say the same in a process with another working folder."""
    data_dir = None if task.data_dir is None else task.data_dir.absolute()
    return replace(task, path=task.path.absolute(), data_dir=data_dir)


def _run_there(task: SeedTask) -> tuple[RunRecord | LeNetError, dict[str, bytes]]:
    """Carry a task out; return its record and files, or its error as a value."""
    # Ray would wrap an error that is raised, and lose its type.
    try:
        record = run_task(task)
    except LeNetError as error:
        return error, {}
    paths = [path for path in task.path.iterdir() if path.is_file() and path.name[0] != "."]
    return record, {path.name: path.read_bytes() for path in paths}


def _keep(folder: Path, found: dict[str, bytes]) -> None:
    """Write a run's files where they are not yet, the record last, as a run itself does."""
    if (folder / RECORD_FILE).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(found, key=lambda name: name == RECORD_FILE):
        write_bytes(folder / name, found[name])
