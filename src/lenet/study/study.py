"""One recipe, many seeds: the runs and the record over them.

Each seed is a run directory of its own, so a study that was stopped goes on with the seeds and
epochs that are missing.
"""

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from lenet.errors import LeNetError, RunError
from lenet.results.records import (
    STUDY_FILE,
    command_line,
    run_figures,
    summarize_images,
    summarize_runs,
    write_record,
)
from lenet.schema import RunRecord, StudyRecord, Summary
from lenet.study.processes import run_in_processes, share_cores
from lenet.study.tasks import Executor, SeedTask, StudyWatcher
from lenet.training.recipe import Recipe


def run_study(
    path: Path,
    recipe_name: str,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    device: str = "auto",
    engine: str = "auto",
    data_dir: Path | None = None,
    num_jobs: int = 0,
    executor: Executor | None = None,
    watcher: StudyWatcher | None = None,
) -> StudyRecord:
    """Train a recipe under each seed and summarize the runs.

    Args:
        path: Folder of the study; each seed has a run directory in it.
        recipe_name: What to call the recipe in records.
        recipe: What to train.
        seeds: At least one, each once.
        device: As for `lenet.training.train`.
        engine: Likewise.
        data_dir: Likewise.
        num_jobs: Runs side by side; 0 for one a core, or one at a time on a GPU.
        executor: Who carries the runs out; processes of this machine by default.
        watcher: Told as each seed ends.

    Raises:
        RunError: The folder holds a study of another recipe, or some seeds failed; the others
            are trained to their end first.
        LeNetError: Whatever would stop every seed.
    """
    if not seeds or len(set(seeds)) != len(seeds) or num_jobs < 0:
        raise RunError(f"`seeds` (={list(seeds)}) must differ and `num_jobs` (={num_jobs}) be >= 0")
    path.mkdir(parents=True, exist_ok=True)
    tasks = [
        SeedTask(
            path=path / f"seed-{seed}",
            recipe_name=recipe_name,
            recipe=recipe,
            seed=seed,
            device=device,
            engine=engine,
            data_dir=data_dir,
        )
        for seed in seeds
    ]
    outcomes = carry_out(tasks, num_jobs=num_jobs, executor=executor, watcher=watcher)
    records = {t.seed: r for t, r in outcomes if isinstance(r, RunRecord)}
    failed = {t.seed: str(r) for t, r in outcomes if isinstance(r, LeNetError)}
    if failed:
        raise RunError(
            f"{path}: {len(failed)} of {len(seeds)} seeds failed, the others are trained: "
            + "; ".join(f"seed {seed}: {reason}" for seed, reason in sorted(failed.items()))
        )
    runs = tuple(run_figures(records[seed]) for seed in seeds)
    study = StudyRecord(
        recipe_name=recipe_name,
        recipe=asdict(recipe),
        seeds=tuple(seeds),
        summary=summarize_runs(runs),
        runs=runs,
        environment=records[seeds[0]].environment,
        command=command_line(),
        test_images=_over_test_images(records.values()),
    )
    write_record(path / STUDY_FILE, study)
    return study


def carry_out(
    tasks: Sequence[SeedTask],
    *,
    num_jobs: int = 0,
    executor: Executor | None = None,
    watcher: StudyWatcher | None = None,
) -> list[tuple[SeedTask, RunRecord | LeNetError]]:
    """Carry tasks out and return what became of each, in the order they ended.

    Raises:
        LeNetError: Whatever would stop every task.
    """
    if executor is None:
        num_cores, default = _resources(tasks[0].device)
        num_jobs = min(num_jobs or default, len(tasks))
        tasks = share_cores(tasks, num_jobs, num_cores)
    if watcher is not None:
        # A cluster does not say how many it can take at once.
        watcher.start(tasks, num_jobs or len(tasks))
    run: Executor = executor or (lambda tasks: run_in_processes(tasks, num_jobs))
    outcomes = []
    # Closed at once when the caller is interrupted, which ends what runs.
    with closing(run(tasks)) as ended:
        for task, outcome in ended:
            outcomes.append((task, outcome))
            if watcher is not None:
                watcher.end(task, outcome)
    return outcomes


def _resources(device: str) -> tuple[int, int]:
    """Return the number of cores, and how many runs at a time make good use of the machine."""
    from lenet.parallel import num_cores
    from lenet.training.device import choose_device

    return num_cores(), num_cores() if choose_device(device).type == "cpu" else 1


def _over_test_images(records: Collection[RunRecord]) -> Summary | None:
    wrong = [record.test_wrong for record in records if record.test_wrong is not None]
    if len(wrong) < len(records):
        return None
    return summarize_images(wrong, next(iter(records)).scores["test"].num_images)
