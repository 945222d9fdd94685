"""Train the tasks of a study on a Ray cluster, each on a free core of any machine.

If all machines share the run directories, a run whose machine was lost continues from its last
epoch; otherwise it begins again. In both cases its files are copied back to this machine.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lenet.errors import LeNetError, RunError
from lenet.files import write_bytes
from lenet.parallel.ray_cluster import connected, reason_of
from lenet.schema import RECORD_FILE, RunRecord
from lenet.study.tasks import ERRORS_OF_ONE_SEED, Outcome, SeedTask, run_task

MAX_RETRIES = 20
"""Of one task whose process or machine was lost."""


def run_on_ray(tasks: Sequence[SeedTask], address: str) -> Generator[Outcome]:
    """Train tasks on a cluster; closing the generator cancels them.

    Args:
        tasks: On a GPU if their device asks for CUDA, a core each otherwise.
        address: Of the cluster's head, "auto" or "local"; see `connected`.

    Raises:
        ClusterError: There is no such cluster.
        LeNetError: An error that would stop every other task as well.
    """
    with connected(address) as ray:
        gpus = 1 if tasks[0].device.startswith("cuda") else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)(_run_there)
        waiting: dict[Any, SeedTask] = {remote.remote(_absolute(task)): task for task in tasks}
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
                    if not isinstance(outcome, ERRORS_OF_ONE_SEED):
                        raise outcome
                else:
                    _keep(task.path, found)
                yield task, outcome
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)


def _absolute(task: SeedTask) -> SeedTask:
    """Return a task with absolute paths, for a process with another working folder."""
    data_dir = None if task.data_dir is None else task.data_dir.absolute()
    return replace(task, path=task.path.absolute(), data_dir=data_dir)


def _run_there(task: SeedTask) -> tuple[RunRecord | LeNetError, dict[str, bytes]]:
    """Train a task; return its record and files, or its error as a value."""
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
