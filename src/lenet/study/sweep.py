"""One recipe under several settings: chosen on validation images, never on the test images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from lenet.errors import LeNetError, RecipeError
from lenet.results.compare import SIGNIFICANCE
from lenet.results.records import (
    SWEEP_FILE,
    command_line,
    environment,
    paired_p_value,
    run_figures,
    summarize_runs,
    write_record,
)
from lenet.schema import RunRecord, SweepPoint, SweepRecord
from lenet.study.study import carry_out
from lenet.study.tasks import Executor, SeedTask, StudyWatcher
from lenet.training.recipe import Recipe

NUM_VAL = 10_000
"""Validation images that a sweep cuts off where the recipe does not."""
MAX_POINTS = 1000


def parse_sweep(text: str) -> tuple[str, tuple[Any, ...]]:
    """Read "field=value,value,...".

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


def run_sweep(
    path: Path,
    recipe_name: str,
    recipe: Recipe,
    varied: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    *,
    device: str = "auto",
    engine: str = "auto",
    data_dir: Path | None = None,
    num_jobs: int = 0,
    executor: Executor | None = None,
    watcher: StudyWatcher | None = None,
) -> SweepRecord:
    """Train a recipe under every combination of values and seeds, and compare on the val split.

    Args:
        path: Folder of the sweep; each setting has a folder in it, with a run for each seed.
        recipe_name: What to call the recipe in the record.
        recipe: What is varied; if it cuts off no validation images, `NUM_VAL` are.
        varied: Values by field of the recipe.
        seeds: At least one, the same for each setting, so that settings are compared in pairs.
        device: As for `run_study`.
        engine: Likewise.
        data_dir: Likewise.
        num_jobs: Likewise.
        executor: Likewise.
        watcher: Told as each run ends.

    Raises:
        RecipeError: A combination is not allowed, or there are more than `MAX_POINTS`.
        LeNetError: Whatever would stop every run.
    """
    if "num_val" not in varied and not recipe.num_val:
        recipe = replace(recipe, num_val=NUM_VAL, test_as_validation=False)
    combinations = [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
    if len(combinations) > MAX_POINTS or not seeds:
        raise RecipeError(
            f"`sweep` has {len(combinations)} settings and {len(seeds)} seeds; at most "
            f"{MAX_POINTS}, at least 1"
        )
    recipes = [replace(recipe, **values) for values in combinations]
    if not all(r.num_val for r in recipes):
        raise RecipeError("a sweep compares on validation images: `num_val` must be at least 1")
    # Seed by seed, so that a sweep that is stopped has compared all settings under some seeds.
    tasks = [
        SeedTask(
            path=path / name_of(values) / f"seed-{seed}",
            recipe_name=recipe_name,
            recipe=varied_recipe,
            seed=seed,
            device=device,
            engine=engine,
            data_dir=data_dir,
        )
        for seed in seeds
        for values, varied_recipe in zip(combinations, recipes, strict=True)
    ]
    path.mkdir(parents=True, exist_ok=True)
    outcomes = carry_out(tasks, num_jobs=num_jobs, executor=executor, watcher=watcher)
    ended = {task.path: outcome for task, outcome in outcomes}
    points = tuple(
        _point(values, {seed: ended[path / name_of(values) / f"seed-{seed}"] for seed in seeds})
        for values in combinations
    )
    best = _best(points)
    record = SweepRecord(
        recipe_name=recipe_name,
        recipe=asdict(recipe),
        fields=tuple(varied),
        seeds=tuple(seeds),
        points=points,
        best=best,
        sentence=_sentence(points, best),
        environment=environment(),
        command=command_line(),
    )
    write_record(path / SWEEP_FILE, record)
    return record


def name_of(values: Mapping[str, Any]) -> str:
    """Return a setting's name, for people and folders.

    Example:
        >>> name_of({"lr": 0.001, "epochs": 3})
        'lr=0.001,epochs=3'
    """
    return ",".join(f"{field}={value}" for field, value in values.items())


def _point(values: dict[str, Any], outcomes: Mapping[int, RunRecord | LeNetError]) -> SweepPoint:
    runs = tuple(
        msgspec.structs.replace(
            run_figures(record), test_accuracy=None, test_loss=None, test_wrong=None
        )
        for record in outcomes.values()
        if isinstance(record, RunRecord)
    )
    return SweepPoint(
        values=values,
        summary=summarize_runs(runs) if runs else {},
        runs=runs,
        failed={str(s): str(e) for s, e in outcomes.items() if isinstance(e, LeNetError)},
    )


def _best(points: Sequence[SweepPoint]) -> int | None:
    """Return the place of the highest mean validation accuracy; a setting that failed is out."""
    whole = [i for i, point in enumerate(points) if not point.failed]
    return max(whole, key=lambda i: points[i].summary["val_accuracy"].mean, default=None)


def _sentence(points: Sequence[SweepPoint], best: int | None) -> str:
    """Say which setting is best, and which others are not shown to be worse."""
    if best is None:
        return "Every setting failed under some seed."
    chosen = points[best]
    accuracy = chosen.summary["val_accuracy"]
    says = f"{name_of(chosen.values)} is best on the validation images: {accuracy.mean:.2%}"
    rivals = [point for i, point in enumerate(points) if i != best and not point.failed]
    if not rivals:
        return f"{says}."
    if accuracy.n == 1:
        return f"{says}; one seed says nothing about chance."
    # The best was chosen by looking at all, so every pair of settings counts as compared.
    level = SIGNIFICANCE / math.comb(len(rivals) + 1, 2)
    near = [name_of(point.values) for point in rivals if not _is_shown_worse(point, chosen, level)]
    how = f"paired over {accuracy.n} seeds and corrected for {len(rivals) + 1} settings"
    if not near:
        return f"{says}; every other setting is shown to be worse, {how}."
    return f"{says}; not shown to be worse, {how}: {', '.join(near)}."


def _is_shown_worse(point: SweepPoint, chosen: SweepPoint, level: float) -> bool:
    """Return whether Student's t test of the differences, paired over seeds, is below a level."""
    pairs = zip(point.runs, chosen.runs, strict=True)
    differences = [(b.val_accuracy or 0.0) - (a.val_accuracy or 0.0) for a, b in pairs]
    return paired_p_value(differences) < level
