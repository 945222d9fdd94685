"""`lenet train`: train a new run, or resume one that was stopped.

stdout holds the result, stderr everything else.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from lenet.cli.console import TrainingView
from lenet.cli.options import (
    DataDirOption,
    DeviceOption,
    EngineOption,
    RecipeName,
    Settings,
    parse,
    parse_with_recipe,
)
from lenet.data.datasets import fetch
from lenet.errors import LeNetError, RecipeError, RunError, install_hint
from lenet.results.report import write_report
from lenet.schema import RunRecord, to_json
from lenet.training.loop import Watcher, choose_device
from lenet.training.loop import train as train_run
from lenet.training.recipe import RECIPES, Recipe
from lenet.training.run import RECIPE_FILE, Run, create_run, open_run

RUNS_FOLDER = Path("runs")
TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Environment variables that `torchrun` sets."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train a recipe and write its report.

    Examples:
      lenet train                              the default recipe
      lenet train report --seed 3              the original report's settings
      lenet train default --epochs 5 --lr 2e-3
      lenet train --num-val 0                  on all 60,000 images, without a validation curve
      lenet train --resume                     go on after an interruption
      lenet train robust --images my-digits/ --start pretrained --epochs 3 --lr 5e-4
    """

    recipe: RecipeName = ""
    """Named recipe; `lenet recipes` shows them. Every field of it is a flag below."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 0)")] = (
        None
    )
    """Decides initial weights and the order of the images."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/RECIPE-seedN)"),
    ] = None
    """Run directory."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="DIR|CSV")] = None
    """Your own pictures, trained on with the data set's images: a subfolder for each label, or a
    CSV with columns path and label. A fifth of them is held out as the val split."""
    start: Annotated[Path | None, tyro.conf.arg(metavar="RUN|MODEL")] = None
    """Begin with the weights of this model, or of `pretrained`, the package's own."""
    resume: bool = False
    """Go on with the run in --out, or with the newest of this recipe and seed in runs/."""
    device: DeviceOption = "auto"
    engine: EngineOption = "auto"
    threads: int = 0
    """CPU threads; 0 for all cores with the native engine, 1 with torch's."""
    data_dir: DataDirOption = None
    tensorboard: bool = False
    """Also write TensorBoard event files into the run directory."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the record as one JSON object."""
    settings: Settings = field(default_factory=lambda: RECIPES["default"])


def train(arguments: Sequence[str]) -> int:
    """Train, or continue training, and write the report."""
    options, name = parse_with_recipe(TrainOptions, "train", arguments)
    if options.threads < 0:
        raise RecipeError(f"`threads` (={options.threads}) must be at least 0")
    # Checked before the run directory is made, so that an error leaves nothing behind.
    choose_device(options.device)
    if options.tensorboard:
        require_tensorboard()
    if os.environ.keys() >= TORCHRUN:
        from lenet.cli.torchrun import train_shared

        return train_shared(options, name, arguments)
    train_and_print(find_run(options, name, arguments), options)
    return 0


def train_and_print(run: Run, options: TrainOptions) -> None:
    """Train a run while showing its progress, write its report, and print its scores."""
    if run.is_finished:
        print(f"{run.path}: this run is finished", file=sys.stderr)
    events = run.path / "tensorboard" if options.tensorboard else None
    try:
        with TrainingView(Console(stderr=True), events, quiet=options.quiet) as view:
            record = train_silently(run, options, view)
        report = write_report(run.path, data_dir=options.data_dir)
    except KeyboardInterrupt:
        # Ctrl-C: the epochs done are on the disk; main() prints this and exits with status 130.
        raise KeyboardInterrupt(
            f"interrupted after {run.num_epochs_done} of {run.recipe.epochs} epochs; "
            f"`lenet train --resume --out {run.path}` goes on"
        ) from None
    if options.json:
        print(to_json(record))
        return
    for split, scores in record.scores.items():
        wrong = scores.num_images - scores.num_correct
        print(
            f"{split + ' accuracy':<16}{scores.accuracy:.2%}   "
            f"{wrong:,} of {scores.num_images:,} wrong"
        )
    print(f"{'training time':<16}{record.training_s:.1f} s")
    print(f"{'report':<16}{report}")


def train_silently(run: Run, options: TrainOptions, watcher: Watcher) -> RunRecord:
    """Train a run as the options say."""
    return train_run(
        run,
        device=options.device,
        engine=options.engine,
        num_threads=options.threads,
        data_dir=options.data_dir,
        watcher=watcher,
    )


def require_tensorboard() -> None:
    """Raise if TensorBoard's files can't be written here."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise LeNetError(
            f"--tensorboard needs tensorboardX: {install_hint('tensorboard')}"
        ) from None


def find_run(options: TrainOptions, name: str, arguments: Sequence[str]) -> Run:
    """Return the run that a command asks for: a new one, or one that was stopped."""
    if not options.resume:
        return _new_run(options, name)
    run = _run_to_resume(options, name, arguments)
    if not run.is_finished:
        _copy_inputs(run)
    return run


def default_paths(options: TrainOptions, name: str) -> list[Path]:
    """Return the numbered folders of a recipe and seed that exist, then the first free one."""
    paths = [RUNS_FOLDER / f"{name}-seed{options.seed or 0}"]
    while paths[-1].exists():
        paths.append(RUNS_FOLDER / f"{name}-seed{options.seed or 0}-{len(paths) + 1}")
    return paths


def _new_run(options: TrainOptions, name: str) -> Run:
    path = options.out
    if path is None:
        *taken, path = default_paths(options, name)
        for other in taken:
            if not (other / RECIPE_FILE).is_file():
                continue
            run = open_run(other)
            if run.is_finished or run.is_locked:
                continue
            is_plain = options.images is None and options.start is None
            if is_plain and run.recipe == options.settings and run.num_epochs_done == 0:
                return run
            print(
                f"note: {other} holds an unfinished run; "
                f"`lenet train --resume --out {other}` would go on with it",
                file=sys.stderr,
            )
    if options.data_dir is not None:
        # Before the folder is made, so that the same command with another --data-dir starts anew.
        fetch(options.settings.dataset, data_dir=options.data_dir)
    run = create_run(
        path,
        name,
        options.settings,
        options.seed or 0,
        images=None if options.images is None else str(options.images),
        start=None if options.start is None else str(options.start),
    )
    try:
        _copy_inputs(run)
    except LeNetError:
        shutil.rmtree(path)  # made above, so that nobody else's files are in it
        raise
    return run


def _copy_inputs(run: Run) -> None:
    """Copy the pictures and the model that a run was asked to use into its folder."""
    if run.images is not None or run.start is not None:
        from lenet.training.own import gather

        gather(run, lambda path, error: print(f"error: {path}: {error}", file=sys.stderr))


def _run_to_resume(options: TrainOptions, name: str, arguments: Sequence[str]) -> Run:
    path = options.out
    if path is None:
        taken = default_paths(options, name)[:-1]
        if not taken:
            raise RunError(
                f"{RUNS_FOLDER / f'{name}-seed{options.seed or 0}'}: nothing to resume here; "
                "--out names the run directory"
            )
        path = taken[-1]
    run = open_run(path)
    if options.images is not None or options.start is not None:
        raise RunError(f"{path}: a resumed run keeps its pictures and the weights it began with")
    # Parsed over the run's own values, flags that ask for something else stand out.
    wanted = parse(TrainOptions, "train", arguments, default=TrainOptions(settings=run.recipe))
    changed = [
        f"--{f.name.replace('_', '-')} {getattr(wanted.settings, f.name)}"
        for f in fields(Recipe)
        if getattr(wanted.settings, f.name) != getattr(run.recipe, f.name)
    ]
    if options.seed not in (None, run.seed):
        changed.append(f"--seed {options.seed}")
    if options.recipe not in ("", run.recipe_name):
        changed.insert(0, options.recipe)
    if changed:
        raise RunError(
            f"{path}: a resumed run keeps its settings (recipe {run.recipe_name}, "
            f"seed {run.seed}), but `{' '.join(changed)}` asks for others"
        )
    return run
