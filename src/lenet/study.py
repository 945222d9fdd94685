"""One recipe, many seeds: the runs and the record over them.

Each seed is a run directory of its own, so a study that was stopped goes on with the seeds and
epochs that are missing. Seeds run in processes of their own, one thread each.
"""

import multiprocessing
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from lenet.errors import RunError
from lenet.recipes import Recipe
from lenet.records import (
    STUDY_FILE,
    RunRecord,
    StudyRecord,
    Summary,
    command_line,
    run_figures,
    summarize_images,
    summarize_runs,
    write_record,
)


def run_study(
    path: Path,
    recipe_name: str,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    device: str = "auto",
    engine: str = "auto",
    data_dir: Path | None = None,
    num_jobs: int = 1,
    on_run: Callable[[RunRecord], None] | None = None,
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
        num_jobs: Runs side by side.
        on_run: Called as each seed ends, in the order they end.

    Raises:
        RunError: The folder holds a study of another recipe.
        LeNetError: Whatever stopped a run.
    """
    if not seeds or len(set(seeds)) != len(seeds) or num_jobs < 1:
        raise RunError(f"`seeds` (={list(seeds)}) must differ and `num_jobs` (={num_jobs}) be >= 1")
    path.mkdir(parents=True, exist_ok=True)
    records: dict[int, RunRecord] = {}
    # A forked child of a process that has used torch's threads can hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_jobs, mp_context=spawn) as pool:
        futures = {
            pool.submit(
                _run_seed,
                path / f"seed-{seed}",
                recipe_name,
                recipe,
                seed,
                device,
                engine,
                data_dir,
            ): seed
            for seed in seeds
        }
        try:
            for future in as_completed(futures):
                records[futures[future]] = future.result()
                if on_run is not None:
                    on_run(records[futures[future]])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
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


def _over_test_images(records: Collection[RunRecord]) -> Summary | None:
    wrong = [record.test_wrong for record in records if record.test_wrong is not None]
    if len(wrong) < len(records):
        return None
    return summarize_images(wrong, next(iter(records)).scores["test"]["num_images"])


def _run_seed(
    path: Path,
    recipe_name: str,
    recipe: Recipe,
    seed: int,
    device: str,
    engine: str,
    data_dir: Path | None,
) -> RunRecord:
    from lenet.training import create_run, open_run, train

    if (path / "recipe.json").is_file():
        run = open_run(path)
        if run.recipe != recipe or run.seed != seed:
            raise RunError(f"{path}: holds a run of another recipe or seed; name another folder")
    else:
        run = create_run(path, recipe_name, recipe, seed)
    return train(run, device=device, engine=engine, num_threads=1, data_dir=data_dir)
