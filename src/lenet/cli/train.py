"""The verb that trains: a new run, or one that goes on.

stdout holds the result, stderr all else.
"""

import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from lenet.cli.options import TrainOptions, parse, parse_with_recipe
from lenet.errors import LeNetError, RecipeError, RunError, install_hint
from lenet.training.recipe import Recipe, without_teachers

if TYPE_CHECKING:
    from lenet.schema import RunRecord
    from lenet.training.run import Run
    from lenet.training.shared import Group

RUNS_FOLDER = Path("runs")


def train(arguments: Sequence[str]) -> int:
    """Train, or go on training, and write the report."""
    options, name = parse_with_recipe(TrainOptions, "train", arguments)
    if options.threads < 0:
        raise RecipeError(f"`threads` (={options.threads}) must be at least 0")
    from lenet.training.device import choose_device
    from lenet.training.shared import joined

    # Before the run directory is made: what can't start should leave nothing.
    device = choose_device(options.device)
    if options.tensorboard:
        _require_tensorboard()
    with joined(device) as group:
        if not group.is_first:
            _train_share(options, group)
            return 0
        run = group.from_first(lambda: _find_run(options, name, arguments))
        record, report = _train_and_report(run, options, group)
    if options.json:
        from lenet.schema import to_json

        print(to_json(record))
    else:
        _print_run(record, report)
    return 0


def _train_and_report(
    run: "Run", options: TrainOptions, group: "Group"
) -> tuple["RunRecord", Path]:
    from rich.console import Console

    from lenet.cli.console import TrainingView
    from lenet.results.report import write_report
    from lenet.training.session import train as train_run

    if run.is_finished:
        print(f"{run.path}: this run is finished", file=sys.stderr)
    events = run.path / "tensorboard" if options.tensorboard else None
    try:
        with TrainingView(Console(stderr=True), events, quiet=options.quiet) as view:
            record = train_run(
                run,
                device=options.device,
                engine=options.engine,
                num_threads=options.threads,
                data_dir=options.data_dir,
                watcher=view,
                group=group,
            )
        return record, write_report(run.path, data_dir=options.data_dir)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after {run.num_epochs_done} of {run.recipe.epochs} epochs; "
            f"`lenet train --resume --out {run.path}` goes on"
        ) from None


def _train_share(options: TrainOptions, group: "Group") -> None:
    """Do the part of a process that `torchrun` started beside the first, which alone speaks."""
    from lenet.training.session import train as train_run

    logging.disable()
    try:
        # The first process finds the run; here nothing is read or written.
        run = group.from_first(_no_run)
        train_run(
            run,
            device=options.device,
            engine=options.engine,
            num_threads=options.threads,
            data_dir=options.data_dir,
            group=group,
        )
    except LeNetError:
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _no_run() -> "Run":
    raise AssertionError("called in process 0 alone")


def _find_run(options: TrainOptions, name: str, arguments: Sequence[str]) -> "Run":
    from lenet.training.run import RECIPE_FILE, open_run
    from lenet.training.shared import is_restart, is_under_torchrun

    if options.resume:
        from lenet.training.own import gather

        run = _run_to_resume(options, name, arguments)
        if not run.is_finished:
            gather(run, _complain)
        return run
    if is_under_torchrun():
        # It starts the same command anew when a process ended or a machine came or went.
        paths = [options.out] if options.out else _default_paths(name, options.seed or 0)[:-1]
        if paths and (paths[-1] / RECIPE_FILE).is_file():
            run = open_run(paths[-1])
            is_same = run.recipe == options.settings and run.seed == (options.seed or 0)
            if is_same and (is_restart() or not run.is_finished):
                return run
    return _new_run(options, name)


def _require_tensorboard() -> None:
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise LeNetError(
            f"--tensorboard needs tensorboardX: {install_hint('tensorboard')}"
        ) from None


def _default_paths(name: str, seed: int) -> list[Path]:
    """Return the numbered folders of a recipe and seed that exist, then the first free one."""
    paths = [RUNS_FOLDER / f"{name}-seed{seed}"]
    while paths[-1].exists():
        paths.append(RUNS_FOLDER / f"{name}-seed{seed}-{len(paths) + 1}")
    return paths


def _new_run(options: TrainOptions, name: str) -> "Run":
    from lenet.training.run import RECIPE_FILE, open_run

    seed = options.seed or 0
    path = options.out
    if path is None:
        *taken, path = _default_paths(name, seed)
        for other in taken:
            if not (other / RECIPE_FILE).is_file():
                continue
            run = open_run(other)
            if run.is_finished or run.is_locked:
                continue
            if (
                run.recipe == options.settings
                and run.num_epochs_done == 0
                and options.images is None
                and options.start is None
            ):
                return run
            print(
                f"note: {other} holds an unfinished run; "
                f"`lenet train --resume --out {other}` would go on with it",
                file=sys.stderr,
            )
    return _create_run(path, name, options)


def _create_run(path: Path, name: str, options: TrainOptions) -> "Run":
    """Make a run directory with all that is to be trained on in it, or none."""
    from lenet.data import fetch
    from lenet.training.own import gather
    from lenet.training.run import create_run

    if options.data_dir is not None:
        # Before the folder is made, so that the same command with another --data-dir starts anew.
        fetch(options.settings.dataset, data_dir=options.data_dir)
    settings, images, start = options.settings, options.images, options.start
    if (images or start) and settings.teachers:
        settings = without_teachers(settings)
        print("note: learning from labels alone; teachers would not see this", file=sys.stderr)
    run = create_run(
        path,
        name,
        settings,
        options.seed or 0,
        images=None if images is None else str(images),
        start=None if start is None else str(start),
    )
    try:
        gather(run, _complain)
    except LeNetError:
        shutil.rmtree(path)  # made above, so that nobody else's files are in it
        raise
    return run


def _complain(path: Path, error: LeNetError) -> None:
    print(f"error: {ascii(str(path))[1:-1]}: {error}", file=sys.stderr)


def _run_to_resume(options: TrainOptions, name: str, arguments: Sequence[str]) -> "Run":
    from lenet.training.run import open_run

    path = options.out
    if path is None:
        taken = _default_paths(name, options.seed or 0)[:-1]
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


def _print_run(record: "RunRecord", report: Path) -> None:
    for split in ("train", "val", "test"):
        if split in record.scores:
            scores = record.scores[split]
            wrong = scores.num_images - scores.num_correct
            print(
                f"{split} accuracy".ljust(16)
                + f"{scores.accuracy:.2%}   {wrong:,} of {scores.num_images:,} wrong"
            )
    print(f"{'training time':<16}{record.training_s:.1f} s")
    print(f"{'report':<16}{report}")
