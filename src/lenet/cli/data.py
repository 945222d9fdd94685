"""The verbs `report`, `bench`, `data`, `recipes` and `env`.

stdout holds the result, stderr everything else. What a verb needs is imported inside its function.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from lenet.cli.options import DataDirOption, Folder, parse
from lenet.errors import RecipeError
from lenet.schema import to_json
from lenet.training.recipe import RECIPES, SUMMARIES, DatasetName, Recipe


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Draw the figures and the report of a finished run again.

    Examples:
      lenet report runs/default-seed0
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    data_dir: DataDirOption = None
    json: bool = False
    """Print where the report is as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measure the speed of this machine's engines, in turns.

    Examples:
      lenet bench
      lenet bench --num-images 60000 --rounds 3    # whole epochs; minutes

    The last line is one JSON object.
    """

    num_images: int = 6000
    """Training images of one timed pass."""
    batch_size: int = 32
    """Images a training step."""
    threads: int = 0
    """CPU threads of every contestant; 0 for one a core."""
    rounds: int = 5
    """How often each contestant takes its turn."""
    data_dir: DataDirOption = None


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Fetch, list or verify the data sets.

    Examples:
      lenet data fetch
      lenet data list
      lenet data verify fashion-mnist --data-dir ~/data/FashionMNIST/raw
    """

    action: Positional[Literal["fetch", "list", "verify"]]
    """What to do."""
    dataset: Positional[DatasetName] = "mnist"
    """Which data set; `list` shows all."""
    data_dir: Folder = None
    """Folder to look in before the cache; LENET_DATA does the same."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class RecipesOptions:
    """Show the named recipes.

    Examples:
      lenet recipes
      lenet recipes --json
    """

    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """Show versions and machine, for a bug report.

    Examples:
      lenet env
      lenet env --json
    """

    json: bool = False
    """Print one JSON object."""


def report(arguments: Sequence[str]) -> int:
    """Write a report again."""
    options = parse(ReportOptions, "report", arguments)
    from rich.console import Console

    from lenet.cli.console import DownloadBar
    from lenet.results.report import write_report

    progress = DownloadBar(Console(stderr=True))
    path = write_report(options.run, data_dir=options.data_dir, progress=progress)
    progress.close()
    if options.json:
        print(to_json({"report": path}))
    else:
        print(path)
    return 0


def bench(arguments: Sequence[str]) -> int:
    """Measure speeds."""
    options = parse(BenchOptions, "bench", arguments)
    limits = {
        "num_images": (1, 60_000),
        "batch_size": (1, 60_000),
        "threads": (0, 64),
        "rounds": (1, 1000),
    }
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if not low <= value <= high:
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
    print(to_json(asdict(record)))
    return 0


def data(arguments: Sequence[str]) -> int:
    """Fetch, list or verify data sets."""
    options = parse(DataOptions, "data", arguments)
    from lenet.data.datasets import fetch, list_datasets, verify

    if options.action == "fetch":
        from rich.console import Console

        from lenet.cli.console import DownloadBar

        progress = DownloadBar(Console(stderr=True))
        folder = fetch(options.dataset, data_dir=options.data_dir, progress=progress)
        progress.close()
        if options.json:
            print(to_json({"dataset": options.dataset, "folder": folder}))
        else:
            print(folder)
        return 0
    if options.action == "list":
        statuses = list_datasets(data_dir=options.data_dir)
        if options.json:
            print(to_json({status.name: status for status in statuses}))
            return 0
        for status in statuses:
            where = status.path or "not here; `lenet data fetch` gets it"
            print(f"{status.name:<14} {status.title:<14} {where}")
        return 0
    files = verify(options.dataset, data_dir=options.data_dir)
    if options.json:
        print(to_json({"dataset": options.dataset, "files": files}))
    else:
        for file in files:
            note = "; no hash is known to compare with" if file.ok and not file.verified else ""
            print(f"{'ok' if file.ok else 'BAD':<4} {file.path}  {file.found}{note}")
    return 0 if all(file.ok for file in files) else 1


def recipes(arguments: Sequence[str]) -> int:
    """Show the named recipes."""
    options = parse(RecipesOptions, "recipes", arguments)
    if options.json:
        print(to_json({name: asdict(recipe) for name, recipe in RECIPES.items()}))
        return 0
    for name, recipe in RECIPES.items():
        print(f"{name}: {SUMMARIES[name]}")
        values = (f"{f.name}={getattr(recipe, f.name)}" for f in fields(Recipe))
        print("  " + "  ".join(values))
    return 0


def env(arguments: Sequence[str]) -> int:
    """Show versions and machine."""
    options = parse(EnvOptions, "env", arguments)
    from lenet.data.datasets import cache_dir
    from lenet.training.finish import describe_device, environment
    from lenet.training.loop import choose_device

    facts = {
        **asdict(environment()),
        "device": describe_device(choose_device()),
        "cache": cache_dir(),
    }
    if options.json:
        print(to_json(facts))
        return 0
    for key, value in facts.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        )
        print(f"{key:<12} {shown}")
    return 0
