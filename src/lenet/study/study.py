"""One recipe under many seeds, and a sweep: the same for several settings of the recipe.

Each seed is a run directory of its own, so a study that was stopped continues with the seeds and
epochs that are missing. A sweep is chosen on validation images, never on the test images.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from lenet.errors import LeNetError, RecipeError, RunError
from lenet.parallel import num_cores
from lenet.results.compare import SIGNIFICANCE
from lenet.results.statistics import (
    paired_p_value,
    run_figures,
    summarize_images,
    summarize_runs,
)
from lenet.schema import STUDY_FILE, SWEEP_FILE, RunRecord, StudyRecord, SweepRecord, write
from lenet.study.tasks import Executor, Outcome, SeedTask, run_in_processes, share_cores
from lenet.training.finish import command_line, environment
from lenet.training.loop import choose_device
from lenet.training.recipe import Recipe

NUM_VAL = 10_000
"""Validation images that a sweep cuts off where the recipe does not."""
MAX_SETTINGS = 1000


def run_study(
    path: Path, recipe_name: str, recipe: Recipe, seeds: Sequence[int], **options: Any
) -> StudyRecord:
    """Train a recipe under each seed, summarize the runs, and write study.json.

    Args:
        path: Folder of the study; each seed has a run directory in it.
        recipe_name: What to call the recipe in records.
        recipe: What to train.
        seeds: At least one, each once.
        options: See `train_all`.

    Raises:
        RunError: The folder holds a study of another recipe, or some seeds failed; the others
            are trained first.
        LeNetError: An error that would stop every seed.
    """
    [study] = train_all({path: recipe}, recipe_name, seeds, **options)
    if study.failed:
        raise RunError(
            f"{path}: {len(study.failed)} of {len(seeds)} seeds failed, the others are trained: "
            + "; ".join(f"seed {seed}: {reason}" for seed, reason in study.failed.items())
        )
    write(path / STUDY_FILE, study)
    return study


def run_sweep(
    path: Path,
    recipe_name: str,
    recipe: Recipe,
    varied: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    **options: Any,
) -> SweepRecord:
    """Study every combination of values, compare them on the val split, and write sweep.json.

    Args:
        path: Folder of the sweep; each setting has a study's folder in it.
        recipe_name: What to call the recipe in the record.
        recipe: What is varied; if it cuts off no validation images, `NUM_VAL` are.
        varied: Values by field of the recipe.
        seeds: At least one, the same for each setting, so that settings are compared in pairs.
        options: See `train_all`.

    Raises:
        RecipeError: A combination is not allowed, or there are more than `MAX_SETTINGS`.
        LeNetError: An error that would stop every run.
    """
    if "num_val" not in varied and not recipe.num_val:
        recipe = replace(recipe, num_val=NUM_VAL, test_as_validation=False)
    if math.prod(map(len, varied.values())) > MAX_SETTINGS:
        raise RecipeError(f"a sweep has at most {MAX_SETTINGS} settings")
    settings = [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
    recipes = {setting_name(values): replace(recipe, **values) for values in settings}
    if not all(r.num_val for r in recipes.values()):
        raise RecipeError("a sweep compares on validation images: `num_val` must be at least 1")
    folders = {path / name: r for name, r in recipes.items()}
    found = train_all(folders, recipe_name, seeds, **options)
    studies = {name: _without_test(study) for name, study in zip(recipes, found, strict=True)}
    best, sentence = choose(studies)
    record = SweepRecord(
        recipe_name=recipe_name,
        fields=tuple(varied),
        studies=studies,
        best=best,
        sentence=sentence,
    )
    write(path / SWEEP_FILE, record)
    return record


def train_all(
    folders: Mapping[Path, Recipe],
    recipe_name: str,
    seeds: Sequence[int],
    *,
    device: str = "auto",
    engine: str = "auto",
    data_dir: Path | None = None,
    num_jobs: int = 0,
    executor: Executor | None = None,
    on_start: Callable[[Sequence[SeedTask], int], None] = lambda tasks, num_jobs: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> list[StudyRecord]:
    """Train recipes under each seed and return a study for each recipe.

    Args:
        folders: Recipes by the folder that holds a run directory for each seed.
        recipe_name: What to call the recipes in records.
        seeds: At least one, each once.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        engine: "auto", "native" or "torch".
        data_dir: Folder with the data set's files; see `lenet.data.datasets.fetch`.
        num_jobs: Runs side by side; 0 for one a core, or one at a time on a GPU.
        executor: Trains the tasks; processes of this machine by default.
        on_start: Called first with the tasks and how many run at a time.
        on_end: Called as each task ends.

    Raises:
        LeNetError: An error that would stop every seed.
    """
    if not seeds or len(set(seeds)) != len(seeds) or num_jobs < 0:
        raise RunError(f"`seeds` (={list(seeds)}) must differ and `num_jobs` (={num_jobs}) be >= 0")
    # Seed by seed, so that a sweep that is stopped has compared all settings under some seeds.
    tasks = [
        SeedTask(
            path=folder / f"seed-{seed}",
            recipe_name=recipe_name,
            recipe=recipe,
            seed=seed,
            device=device,
            engine=engine,
            data_dir=data_dir,
        )
        for seed in seeds
        for folder, recipe in folders.items()
    ]
    if executor is None:
        cores = num_cores()
        default = cores if choose_device(device).type == "cpu" else 1
        num_jobs = min(num_jobs or default, len(tasks))
        tasks = share_cores(tasks, num_jobs, cores)
    # A cluster does not report how many tasks it can run at once.
    on_start(tasks, num_jobs or len(tasks))
    outcomes: dict[Path, RunRecord | LeNetError] = {}
    # Closed at once when the caller is interrupted, which ends the runs.
    with closing(executor(tasks) if executor else run_in_processes(tasks, num_jobs)) as ended:
        for task, outcome in ended:
            outcomes[task.path] = outcome
            on_end((task, outcome))
    return [
        _study(recipe_name, recipe, {s: outcomes[folder / f"seed-{s}"] for s in seeds})
        for folder, recipe in folders.items()
    ]


def _study(
    recipe_name: str, recipe: Recipe, outcomes: Mapping[int, RunRecord | LeNetError]
) -> StudyRecord:
    records = [record for record in outcomes.values() if isinstance(record, RunRecord)]
    runs = tuple(map(run_figures, records))
    wrong = [record.test_wrong for record in records if record.test_wrong is not None]
    test_images = None
    if records and len(wrong) == len(records):
        test_images = summarize_images(wrong, records[0].scores["test"].num_images)
    return StudyRecord(
        recipe_name=recipe_name,
        recipe=asdict(recipe),
        seeds=tuple(outcomes),
        summary=summarize_runs(runs) if runs else {},
        runs=runs,
        failed={str(s): str(e) for s, e in outcomes.items() if isinstance(e, LeNetError)},
        environment=records[0].environment if records else environment(),
        command=command_line(),
        test_images=test_images,
    )


def _without_test(study: StudyRecord) -> StudyRecord:
    """Return a study without the figures of the test images, so that nobody chooses by them."""
    runs = tuple(
        msgspec.structs.replace(run, test_accuracy=None, test_loss=None, test_wrong=None)
        for run in study.runs
    )
    summary = {k: v for k, v in study.summary.items() if not k.startswith("test_")}
    return replace(study, runs=runs, summary=summary, test_images=None)


def choose(studies: Mapping[str, StudyRecord]) -> tuple[str | None, str]:
    """Return the setting of the highest mean validation accuracy, and a sentence about it.

    The sentence names the settings that are not shown to be worse. A setting with a failed seed is
    left out; where all have one, None is returned in place of the best.
    """
    whole = {name: study for name, study in studies.items() if not study.failed}
    if not whole:
        return None, "Every setting failed under some seed."
    best = max(whole, key=lambda name: whole[name].summary["val_accuracy"].mean)
    accuracy = whole[best].summary["val_accuracy"]
    sentence = f"{best} is best on the validation images: {accuracy.mean:.2%}"
    if len(whole) == 1:
        return best, f"{sentence}."
    if accuracy.n == 1:
        return best, f"{sentence}; one seed says nothing about chance."
    # The best was chosen by looking at all, so every pair of settings counts as compared.
    level = SIGNIFICANCE / math.comb(len(whole), 2)
    near = []
    for name, study in whole.items():
        pairs = zip(study.runs, whole[best].runs, strict=True)
        differences = [(b.val_accuracy or 0.0) - (a.val_accuracy or 0.0) for a, b in pairs]
        if name != best and paired_p_value(differences) >= level:
            near.append(name)
    how = f"paired over {accuracy.n} seeds and corrected for {len(whole)} settings"
    if near:
        return best, f"{sentence}; not shown to be worse, {how}: {', '.join(near)}."
    return best, f"{sentence}; every other setting is shown to be worse, {how}."


def setting_name(values: Mapping[str, Any]) -> str:
    """Return a setting's name, which is also that of its folder.

    Example:
        >>> setting_name({"lr": 0.001, "epochs": 3})
        'lr=0.001,epochs=3'
    """
    return ",".join(f"{field}={value}" for field, value in values.items())


def parse_sweep(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse "field=value,value,...".

    Raises:
        RecipeError: No such field of `Recipe`, or a value is not of its type.

    Example:
        >>> parse_sweep("batch-size=32,64")
        ('batch_size', (32, 64))
    """
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    kinds = {field.name: field.type for field in fields(Recipe)}
    if not equals or name not in kinds:
        raise RecipeError(
            f"`sweep` (={text!r}) must be FIELD=VALUE,VALUE,... with one of the fields: "
            + ", ".join(kinds)
        )
    found = tuple(_parse_value(name, kinds[name], word.strip()) for word in values.split(","))
    if len(set(found)) < len(found):
        raise RecipeError(f"`sweep` (={text!r}) must not name a value twice")
    return name, found


def _parse_value(name: str, kind: Any, word: str) -> Any:
    try:
        return msgspec.convert(word, kind, strict=False)
    except msgspec.ValidationError as error:
        raise RecipeError(f"`{name}` (={word!r}): {error}") from None
