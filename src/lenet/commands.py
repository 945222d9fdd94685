"""The verbs of the command line, one function each: arguments in, exit status out.

stdout holds the result, stderr all else. What a verb needs is imported inside it.
"""

# Over 300 lines: a short function for each verb.

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet.errors import LeNetError, RecipeError, RunError
from lenet.options import (
    BenchOptions,
    DataOptions,
    EnvOptions,
    EvaluateOptions,
    ExportOptions,
    RecipesOptions,
    ReportOptions,
    TrainOptions,
    parse,
    parse_with_recipe,
)
from lenet.recipes import RECIPES, SUMMARIES, Recipe

if TYPE_CHECKING:
    from rich.console import Console

    from lenet.evaluation import Scores
    from lenet.records import RunRecord
    from lenet.training import Run
    from lenet.training.distributed import Group

RUNS_FOLDER = Path("runs")


def _print_json(value: Any) -> None:
    print(json.dumps(value))


def _console() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def train(arguments: Sequence[str]) -> int:
    """Train, or go on training, and write the report."""
    options, name = parse_with_recipe(TrainOptions, "train", arguments)
    if options.threads < 0:
        raise RecipeError(f"`threads` (={options.threads}) must be at least 0")
    from lenet.device import choose_device
    from lenet.training.distributed import joined

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
        from lenet.records import to_json

        _print_json(json.loads(to_json(record)))
    else:
        _print_run(record, report)
    return 0


def _train_and_report(
    run: "Run", options: TrainOptions, group: "Group"
) -> tuple["RunRecord", Path]:
    from lenet.console import TrainingView
    from lenet.report import write_report
    from lenet.training import train as train_run

    console = _console()
    if run.is_finished:
        print(f"{run.path}: this run is finished", file=sys.stderr)
    events = run.path / "tensorboard" if options.tensorboard else None
    try:
        with TrainingView(console, events, quiet=options.quiet) as view:
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
    from lenet.training import train as train_run

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
    from lenet.training import open_run
    from lenet.training.directory import RECIPE_FILE
    from lenet.training.distributed import is_restart, is_under_torchrun

    if options.resume:
        return _run_to_resume(options, name, arguments)
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
            "--tensorboard needs tensorboardX: pip install 'lenet[tensorboard]'"
        ) from None


def _default_paths(name: str, seed: int) -> list[Path]:
    """Return the numbered folders of a recipe and seed that exist, then the first free one."""
    paths = [RUNS_FOLDER / f"{name}-seed{seed}"]
    while paths[-1].exists():
        paths.append(RUNS_FOLDER / f"{name}-seed{seed}-{len(paths) + 1}")
    return paths


def _new_run(options: TrainOptions, name: str) -> "Run":
    from lenet.training import open_run
    from lenet.training.directory import RECIPE_FILE

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
    from lenet.training import create_run

    if options.images is None and options.start is None:
        return create_run(path, name, options.settings, options.seed or 0)
    import shutil

    from lenet.data.sources import find_dataset
    from lenet.reader import pretrained_model
    from lenet.training.own import keep_own, keep_start, read_own

    own = None
    if options.images is not None:
        classes = find_dataset(options.settings.dataset).classes
        own = read_own(options.images, classes, _complain)
    run = create_run(path, name, options.settings, options.seed or 0)
    try:
        if own is not None:
            keep_own(run, own)
        if options.start is not None:
            is_ours = str(options.start) == "pretrained" and not options.start.exists()
            with pretrained_model() as ours:
                keep_start(run, ours if is_ours else options.start)
    except LeNetError:
        shutil.rmtree(path)  # made above, so that nobody else's files are in it
        raise
    return run


def _complain(path: Path, error: LeNetError) -> None:
    print(f"error: {ascii(str(path))[1:-1]}: {error}", file=sys.stderr)


def _run_to_resume(options: TrainOptions, name: str, arguments: Sequence[str]) -> "Run":
    from lenet.training import open_run

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
            wrong = scores["num_images"] - scores["num_correct"]
            print(
                f"{split} accuracy".ljust(16)
                + f"{scores['accuracy']:.2%}   {wrong:,} of {scores['num_images']:,} wrong"
            )
    print(f"{'training time':<16}{record.training_s:.1f} s")
    print(f"{'report':<16}{report}")


def evaluate(arguments: Sequence[str]) -> int:
    """Score a model."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    if options.images is not None:
        return _evaluate_pictures(options.model, options.images, as_json=options.json)
    scores = _evaluate(options)
    if options.json:
        _print_json(asdict(scores))
        return 0
    print(
        f"{scores.split} accuracy {scores.accuracy:.2%} "
        f"(95 % interval {scores.accuracy_low:.2%} to {scores.accuracy_high:.2%}), "
        f"{scores.num_images - scores.num_correct:,} of {scores.num_images:,} wrong, "
        f"loss {scores.loss:.4f}"
    )
    return 0


def _evaluate_pictures(model: Path, images: Path, *, as_json: bool) -> int:
    """Score a model on a person's own pictures; one that can't be read counts as wrong."""
    from lenet.errors import PictureError
    from lenet.evaluation import wilson_interval
    from lenet.images.labelled import find_labelled
    from lenet.reader import Reader

    is_ours = str(model) == "pretrained" and not model.exists()
    reader = Reader.from_pretrained() if is_ours else Reader.from_model(model)
    labelled = find_labelled(images)
    wrong, unreadable = [], 0
    for path, label in labelled:
        try:
            found = reader.read_digit(path).label
        except PictureError as error:
            print(f"error: {ascii(str(path))[1:-1]}: {error}", file=sys.stderr)
            found, unreadable = None, unreadable + 1
        if found != label:
            wrong.append({"path": str(path), "label": label, "read": found})
    num_correct = len(labelled) - len(wrong)
    low, high = wilson_interval(num_correct, len(labelled))
    accuracy = num_correct / len(labelled)
    if as_json:
        _print_json(
            {
                "num_images": len(labelled),
                "num_correct": num_correct,
                "accuracy": accuracy,
                "accuracy_low": low,
                "accuracy_high": high,
                "num_unreadable": unreadable,
                "wrong": wrong,
            }
        )
    else:
        for row in wrong:
            read = row["read"] or "no digit"
            print(f"{row['label']} read as {read}   {ascii(row['path'])[1:-1]}")
        print(
            f"accuracy {accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), "
            f"{len(wrong):,} of {len(labelled):,} wrong"
        )
    return 1 if unreadable else 0


def _evaluate(options: EvaluateOptions) -> "Scores":
    import torch

    from lenet.checkpoint import load_model
    from lenet.console import DownloadBar
    from lenet.data import load, split_validation
    from lenet.device import choose_device
    from lenet.evaluation import evaluate as evaluate_model
    from lenet.training.engines import choose_engine

    model, card = load_model(options.model)
    device = choose_device(options.device)
    # As a run scores itself, so that the figures are the same to the last digit.
    torch.set_num_threads(1)
    progress = DownloadBar(_console())
    num_val = card.recipe.get("num_val", 0)
    if options.split == "val" and not num_val:
        raise RecipeError(f"{options.model}: trained on all images, so it has no val split")
    digits = load(
        card.dataset,
        "test" if options.split == "test" else "train",
        data_dir=options.data_dir,
        progress=progress,
    )
    progress.close()
    if options.split != "test" and num_val:
        train_part, val_part = split_validation(digits, num_val)
        digits = val_part if options.split == "val" else train_part
    model = model.to(device)
    engine = choose_engine(options.engine, model)
    return evaluate_model(
        model if engine is None else engine.logits,
        digits.images,
        digits.labels,
        split=options.split,
        device=device,
        takes_bytes=engine is not None,
    )


def export(arguments: Sequence[str]) -> int:
    """Write a model in another format."""
    options = parse(ExportOptions, "export", arguments)
    import torch

    from lenet.console import DownloadBar
    from lenet.export import EXPORTERS, Settings, export_model
    from lenet.export.html_page import NOT_RUN
    from lenet.reader import pretrained_model
    from lenet.records import to_json

    torch.set_num_threads(1)  # as a run scores itself
    progress = DownloadBar(_console())
    with ExitStack() as stack:
        model, out = options.model, options.out
        if str(model) == "pretrained" and not model.exists():
            model = stack.enter_context(pretrained_model())
            # Not beside the model: that is in the package.
            out = out or Path(EXPORTERS[options.to].default_name)
        record = export_model(
            model,
            options.to,
            out=out,
            overwrite=options.overwrite,
            settings=Settings(
                c_type=options.c_type,
                min_agreement=options.min_agreement,
                with_1998=options.with_1998,
            ),
            data_dir=options.data_dir,
            progress=progress,
        )
    progress.close()
    if options.json:
        _print_json(json.loads(to_json(record)))
        return 0
    parity = record.parity
    print(f"{record.path}   {record.num_bytes:,} bytes")
    print(
        f"{parity.num_images - parity.num_labels_differ:,} of {parity.num_images:,} labels are the "
        f"source's, logits differ by up to {parity.largest_logit_difference:.2g} "
        f"of {parity.largest_logit:.3g}, test accuracy {parity.accuracy:.2%}"
    )
    if options.to == "html" and record.details["run_in"] is None:
        print(f"note: {NOT_RUN}: these figures are of the model file inside")
    return 0


def report(arguments: Sequence[str]) -> int:
    """Write a report again."""
    options = parse(ReportOptions, "report", arguments)
    from lenet.console import DownloadBar
    from lenet.report import write_report

    progress = DownloadBar(_console())
    path = write_report(options.run, data_dir=options.data_dir, progress=progress)
    progress.close()
    if options.json:
        _print_json({"report": str(path)})
    else:
        print(path)
    return 0


def bench(arguments: Sequence[str]) -> int:
    """Measure speeds."""
    options = parse(BenchOptions, "bench", arguments)
    for name, low, high in (
        ("num_images", 1, 60_000),
        ("batch_size", 1, 60_000),
        ("threads", 0, 64),
        ("rounds", 1, 1000),
    ):
        if not low <= getattr(options, name) <= high:
            value = getattr(options, name)
            raise RecipeError(f"`{name}` (={value}) must be between {low} and {high}")
    from lenet.bench import run_bench

    record = run_bench(
        num_images=options.num_images,
        batch_size=options.batch_size,
        num_threads=options.threads,
        rounds=options.rounds,
        data_dir=options.data_dir,
        on_round=lambda n: print(f"round {n} of {options.rounds}", file=sys.stderr),
    )
    print(f"{'':<12} {'':<20} {'images/s':>10} {'slowest':>10} {'fastest':>10} {'ratio':>8}")
    for r in record.results:
        print(
            f"{r.discipline:<12} {r.name:<20} {r.images_per_s:>10,.0f} {r.slowest:>10,.0f} "
            f"{r.fastest:>10,.0f} {r.ratio:>7.1f}x"
        )
    for name, reason in record.left_out.items():
        print(f"left out: {name}: {reason}")
    share = record.share_of_matrix_peak
    print(
        f"matrix product: {record.matrix_gflops:.0f} GFLOP/s"
        + (f"; gradients at batch 64: {share:.0%} of it" if share is not None else "")
    )
    _print_json(asdict(record))
    return 0


def data(arguments: Sequence[str]) -> int:
    """Fetch, list or verify data sets."""
    options = parse(DataOptions, "data", arguments)
    from lenet.data import fetch, list_datasets, verify

    if options.action == "fetch":
        from lenet.console import DownloadBar

        progress = DownloadBar(_console())
        folder = fetch(options.dataset, data_dir=options.data_dir, progress=progress)
        progress.close()
        if options.json:
            _print_json({"dataset": options.dataset, "folder": str(folder)})
        else:
            print(folder)
        return 0
    if options.action == "list":
        statuses = list_datasets(data_dir=options.data_dir)
        if options.json:
            _print_json({status.name: _plain(status) for status in statuses})
            return 0
        for status in statuses:
            where = status.path or "not here; `lenet data fetch` gets it"
            print(f"{status.name:<14} {status.title:<14} {where}")
        return 0
    files = verify(options.dataset, data_dir=options.data_dir)
    if options.json:
        _print_json({"dataset": options.dataset, "files": [_plain(file) for file in files]})
    else:
        for file in files:
            print(f"{'ok' if file.ok else 'BAD':<4} {file.path}  {file.found}")
    return 0 if all(file.ok for file in files) else 1


def _plain(status: Any) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(status).items()
    }


def recipes(arguments: Sequence[str]) -> int:
    """Show the named recipes.

    Examples:
      lenet recipes
      lenet recipes --json
    """
    options = parse(RecipesOptions, "recipes", arguments)
    if options.json:
        _print_json({name: asdict(recipe) for name, recipe in RECIPES.items()})
        return 0
    for name, recipe in RECIPES.items():
        print(f"{name}: {SUMMARIES[name]}")
        values = (f"{f.name}={getattr(recipe, f.name)}" for f in fields(Recipe))
        print("  " + "  ".join(values))
    return 0


def env(arguments: Sequence[str]) -> int:
    """Show versions and machine, for a bug report.

    Examples:
      lenet env
      lenet env --json
    """
    options = parse(EnvOptions, "env", arguments)
    from lenet.data import cache_dir
    from lenet.device import choose_device, describe_device
    from lenet.records import environment

    facts = {
        **environment(),
        "device": describe_device(choose_device()),
        "cache": str(cache_dir()),
    }
    if options.json:
        _print_json(facts)
        return 0
    for key, value in facts.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        )
        print(f"{key:<12} {shown}")
    return 0
