"""The verbs about many runs: `study` and `compare`.

stdout holds the result, stderr all else.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from lenet.cli.options import (
    DataDirOption,
    DeviceOption,
    EngineOption,
    RecipeName,
    Settings,
    fill_in,
    parse,
    parse_with_recipe,
)
from lenet.errors import RecipeError
from lenet.schema import StudyRecord, SweepRecord, to_json
from lenet.training.recipe import RECIPES

RUNS_FOLDER = Path("runs")


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Train a recipe under many seeds and summarize.

    Examples:
      lenet study default --seeds 10
      lenet study report --seeds 10 --out studies/report
      lenet study fast --sweep lr=1e-3,2e-3,4e-3 --seeds 5

    Run again with the same arguments, it goes on with what is missing.
    """

    recipe: RecipeName = ""
    """Named recipe; every field of it is a flag below."""
    seeds: int = 10
    """How many seeds."""
    first_seed: int = 0
    """The first of them; the others follow."""
    sweep: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FIELD=V,V,...")
    ] = ()
    """Vary a field of the recipe, and compare on validation images, not on the test images (10,000
    are cut off unless --num-val says otherwise); given twice, every combination."""
    jobs: int = 0
    """Runs side by side; 0 for one a core, or one at a time on a GPU."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """Put the runs on a Ray cluster (`auto`: that which runs here); without an address, on one of
    this machine's own. Needs lenet[cluster]; --jobs does not count then."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="DIR", help_behavior_hint="(default: runs/study-RECIPE or runs/sweep-RECIPE)"
        ),
    ] = None
    """Folder of the study."""
    device: DeviceOption = "auto"
    engine: EngineOption = "auto"
    data_dir: DataDirOption = None
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the study's record as one JSON object."""
    settings: Settings = field(default_factory=lambda: RECIPES["default"])


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Say whether one recipe is better than another on the test images.

    Examples:
      lenet compare runs/study-default runs/study-fast
      lenet compare runs/default-seed0 runs/fast-seed0
    Studies are paired over the seeds they share, runs over the test images (McNemar's test).
    """

    a: Annotated[Positional[Path], tyro.conf.arg(metavar="STUDY|RUN")]
    """A study's folder or record, or a run directory."""
    b: Annotated[Positional[Path], tyro.conf.arg(metavar="STUDY|RUN")]
    """What to compare it with."""
    json: bool = False
    """Print the comparison as one JSON object."""


def study(arguments: Sequence[str]) -> int:
    """Train a recipe under many seeds, or under many settings."""
    options, name = parse_with_recipe(StudyOptions, "study", fill_in(arguments, "--ray", "local"))
    if options.ray is not None and options.jobs:
        raise RecipeError("`--jobs` has no effect with `--ray`: the cluster takes what it can")
    if options.seeds < 1 or options.jobs < 0 or options.first_seed < 0:
        raise RecipeError(
            f"`seeds` (={options.seeds}) must be at least 1, `jobs` (={options.jobs}) and "
            f"`first_seed` (={options.first_seed}) at least 0"
        )
    from lenet.results.plots import save_figure
    from lenet.study.figure import sweep_figure
    from lenet.study.study import parse_sweep

    varied = dict(parse_sweep(text) for text in options.sweep)
    if len(varied) < len(options.sweep):
        raise RecipeError(f"`sweep` (={' '.join(options.sweep)}) must not name a field twice")
    path = options.out or RUNS_FOLDER / f"{'sweep' if varied else 'study'}-{name}"
    try:
        record = _run(options, name, path, varied)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the same command goes on in {path}") from None
    figure = path / "sweep.png"
    if isinstance(record, SweepRecord):
        save_figure(sweep_figure(record), figure)
    if options.json:
        print(to_json(record))
    elif isinstance(record, SweepRecord):
        _print_sweep(record, figure)
    else:
        _print_study(record)
    return 0


def _run(
    options: StudyOptions, name: str, path: Path, varied: Mapping[str, Sequence[Any]]
) -> StudyRecord | SweepRecord:
    from rich.console import Console

    from lenet.cli.console import DownloadBar
    from lenet.data.datasets import fetch
    from lenet.study.study import NUM_VAL, run_study, run_sweep
    from lenet.study.view import StudyView
    from lenet.training.loop import choose_device

    choose_device(options.device)
    console = Console(stderr=True)
    # Once, before the processes start.
    progress = DownloadBar(console)
    fetch(options.settings.dataset, data_dir=options.data_dir, progress=progress)
    progress.close()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with StudyView(console, show_test=not varied, quiet=options.quiet) as view:
        settings: dict[str, Any] = {
            "device": options.device,
            "engine": options.engine,
            "data_dir": options.data_dir,
            "num_jobs": options.jobs,
            "on_start": view.start,
            "on_end": view.end,
        }
        if options.ray is not None:
            from lenet.study.on_ray import run_on_ray

            settings["executor"] = partial(run_on_ray, address=options.ray)
        if not varied:
            return run_study(path, name, options.settings, seeds, **settings)
        if not options.settings.num_val and "num_val" not in varied:
            print(f"note: {NUM_VAL:,} training images are cut off to compare on", file=sys.stderr)
        return run_sweep(path, name, options.settings, varied, seeds, **settings)


def _print_study(record: StudyRecord) -> None:
    for figure in ("train_accuracy", "val_accuracy", "test_accuracy"):
        if figure in record.summary:
            s = record.summary[figure]
            low, high = s.interval
            interval = f"95 % interval {low:.2%} to {high:.2%}   " if s.n > 1 else ""
            print(
                f"{figure.replace('_', ' '):<16}{s.mean:.2%}   {interval}"
                f"sd {s.std:.2%}   min {s.min:.2%}   max {s.max:.2%}   n {s.n}"
            )
    if record.test_images is not None:
        low, high = record.test_images.interval
        print(f"{'':<16}over {record.test_images.n:,} test images: {low:.2%} to {high:.2%}")


def _print_sweep(record: SweepRecord, figure: Path) -> None:
    """Print a line for each setting, the best marked."""
    width = max(map(len, record.studies))
    print(f"{'':<{width}}   val accuracy   95 % interval        sd       train    seconds")
    for name, study in record.studies.items():
        if study.failed:
            seed, reason = next(iter(study.failed.items()))
            print(f"{name:<{width}}   failed: seed {seed}: {reason}")
            continue
        val = study.summary["val_accuracy"]
        interval = f"{val.interval[0]:.2%} to {val.interval[1]:.2%}" if val.n > 1 else "-"
        print(
            f"{name:<{width}}   {val.mean:.2%} {'*' if name == record.best else ' '}       "
            f"{interval:<20} {val.std:.2%}    {study.summary['train_accuracy'].mean:.2%}   "
            f"{study.summary['training_s'].mean:.1f}"
        )
    print(record.sentence)
    print(f"figure          {figure}")


def compare(arguments: Sequence[str]) -> int:
    """Compare two studies or runs."""
    options = parse(CompareOptions, "compare", arguments)
    from lenet.results.compare import compare as compare_paths

    found = compare_paths(options.a, options.b)
    if options.json:
        print(to_json(found))
        return 0
    for p in found.pairs:
        images = (
            ""
            if p.p_value is None
            else f"   right only in one: {p.only_a_right}, {p.only_b_right}   p {p.p_value:.3f}"
        )
        scores = f"{found.a} {p.a_accuracy:.2%}   {found.b} {p.b_accuracy:.2%}"
        print(f"seed {p.seed:>3}   {scores}{images}")
    print(found.sentence)
    return 0
