"""The verbs about many runs: `study` and `compare`.

stdout holds the result, stderr all else.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lenet.cli.options import CompareOptions, StudyOptions, fill_in, parse, parse_with_recipe
from lenet.errors import RecipeError
from lenet.schema import StudyRecord, SweepRecord, to_json

RUNS_FOLDER = Path("runs")


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
    from lenet.study import parse_sweep

    varied = dict(parse_sweep(text) for text in options.sweep)
    if len(varied) < len(options.sweep):
        raise RecipeError(f"`sweep` (={' '.join(options.sweep)}) must not name a field twice")
    path = options.out or RUNS_FOLDER / f"{'sweep' if varied else 'study'}-{name}"
    try:
        found = _run(options, name, path, varied)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the same command goes on in {path}") from None
    if isinstance(found, SweepRecord):
        from lenet.results.plots import save_figure
        from lenet.study.figure import sweep_figure

        figure = path / "sweep.png"
        save_figure(sweep_figure(found), figure)
        if not options.json:
            _print_sweep(found, figure)
    elif not options.json:
        _print_study(found)
    if options.json:
        print(to_json(found))
    return 0


def _run(
    options: StudyOptions, name: str, path: Path, varied: Mapping[str, Sequence[Any]]
) -> StudyRecord | SweepRecord:
    from rich.console import Console

    from lenet.cli.console import DownloadBar
    from lenet.data import fetch
    from lenet.study import run_study, run_sweep
    from lenet.study.sweep import NUM_VAL
    from lenet.study.view import StudyView
    from lenet.training.device import choose_device

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
            "watcher": view,
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
    from lenet.study.sweep import name_of

    names = [name_of(point.values) for point in record.points]
    width = max(map(len, names))
    print(f"{'':<{width}}   val accuracy   95 % interval        sd       train    seconds")
    for i, (name, point) in enumerate(zip(names, record.points, strict=True)):
        if point.failed:
            seed, reason = next(iter(point.failed.items()))
            print(f"{name:<{width}}   failed: seed {seed}: {reason}")
            continue
        val = point.summary["val_accuracy"]
        interval = f"{val.interval[0]:.2%} to {val.interval[1]:.2%}" if val.n > 1 else "-"
        print(
            f"{name:<{width}}   {val.mean:.2%} {'*' if i == record.best else ' '}       "
            f"{interval:<20} {val.std:.2%}    {point.summary['train_accuracy'].mean:.2%}   "
            f"{point.summary['training_s'].mean:.1f}"
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
