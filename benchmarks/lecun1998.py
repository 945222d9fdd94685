"""The paper's Figs. 5 and 6 from our runs, and the road from its network to the common one.

Run: `.venv/bin/python benchmarks/lecun1998.py PART [--seeds 5] [--epochs N] [--jobs 1]`

PART is one of
  passes  Fig. 5: error against passes. Scores the test images after each pass, for the figure
          alone; nothing is chosen by it. The other parts score them once, at the end.
  sizes   Fig. 6: error for 15,000 and 30,000 training images (60,000: `lenet study lecun1998`).
  road    from `lecun1998` to `default` and beyond, one change at a time.

--here trains in this process, where starting others would take longer than what is trained.
Runs lie in runs/lecun1998-PART (`--out` names another folder), so what was stopped goes on.
A line for each study goes to stderr; stdout has one line of JSON.
"""

import argparse
import json
import sys
from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lenet.recipes import RECIPES, Recipe
from lenet.records import command_line, environment, read_run_record, summarize
from lenet.study import SeedTask, run_study
from lenet.study.tasks import Outcome, run_task

PAPER = RECIPES["lecun1998"]
SIZES = (15_000, 30_000)
"""60,000 is `lecun1998` itself."""
ROAD: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("lecun1998", "the paper's network and training", {}),
    ("dense", "C3 looks at every map of S2", {"connections": "dense"}),
    (
        "adam",
        "Adam in batches of 32, linear decay, new order each epoch",
        {
            "optimizer": "adam",
            "batch_size": 32,
            "lr": 2e-3,
            "schedule": "linear",
            "order": "shuffled",
        },
    ),
    ("cross-entropy", "cross-entropy of the negated penalties", {"loss": "cross_entropy"}),
    ("average", "S2 and S4 are plain averages", {"pooling": "average"}),
    ("linear", "a linear output in place of the RBF units", {"output": "linear"}),
    (
        "common",
        "tanh unscaled, PyTorch's initial weights",
        {"model": "lenet5", "activation": "tanh", "init": "torch"},
    ),
    ("pixels", "pixels from 0 to 1", {"background": 0.0, "ink": 1.0}),
    ("default", "label smoothing and warm-up", {"label_smoothing": 0.02, "warmup": 0.05}),
    ("relu", "relu in place of tanh", {"activation": "relu"}),
    ("max", "max pooling", {"pooling": "max"}),
)


def studies_of(part: str, epochs: int) -> list[tuple[str, str, Recipe]]:
    """Return name, title and recipe of each study of a part; `epochs` of 0 takes the part's own."""
    if part == "passes":
        return [("passes", "", replace(PAPER, test_as_validation=True, epochs=epochs or 20))]
    if part == "sizes":
        return [
            (f"{size}", f"{size:,} images", replace(PAPER, num_train=size, epochs=epochs or 20))
            for size in SIZES
        ]
    recipe, found = replace(PAPER, epochs=epochs or 3), []
    for name, title, changes in ROAD:
        recipe = replace(recipe, **changes)
        found.append((name, title, recipe))
    return found


def errors(accuracies: Sequence[float]) -> dict[str, Any]:
    """Return the summary over seeds of the error, in %."""
    return asdict(summarize([100 * (1 - accuracy) for accuracy in accuracies]))


def run_here(tasks: Sequence[SeedTask]) -> Generator[Outcome]:
    """Carry tasks out one after the other in this process."""
    for task in tasks:
        yield task, run_task(task)


def summarize_study(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Return a study's errors in %, at the end and after each pass."""
    runs = [read_run_record(folder / f"seed-{seed}" / "record.json") for seed in seeds]
    passes = list(zip(*[run.epochs for run in runs], strict=True))
    found = {
        "test_error": errors([run.test_accuracy for run in runs]),
        "train_error": errors([run.train_accuracy for run in runs]),
        "train_error_by_pass": [errors([e.train_accuracy for e in each]) for each in passes],
        "training_s": asdict(summarize([run.training_s for run in runs])),
    }
    if runs[0].epochs[0].test_accuracy is not None:
        found["test_error_by_pass"] = [
            errors([e.test_accuracy or 0.0 for e in each]) for each in passes
        ]
    return found


def main() -> None:
    """Run a part's studies and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("passes", "sizes", "road"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=0, help="0: what the part is made for")
    parser.add_argument("--num-train", type=int, default=0, help="fewer images, to try it out")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--here", action="store_true", help="in this process, to try it out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path("runs") / f"lecun1998-{options.part}"
    seeds, studies = range(options.seeds), []
    for name, title, recipe in studies_of(options.part, options.epochs):
        if options.num_train:
            recipe = replace(recipe, num_train=options.num_train)
        executor = run_here if options.here else None
        run_study(out / name, name, recipe, seeds, num_jobs=options.jobs, executor=executor)
        figures = summarize_study(out / name, seeds)
        studies.append({"name": name, "title": title, "recipe": asdict(recipe), **figures})
        test = figures["test_error"]
        print(f"{name:<14} test error {test['mean']:.2f} %, n {test['n']}", file=sys.stderr)
    print(
        json.dumps(
            {
                "benchmark": "lecun1998",
                "part": options.part,
                "studies": studies,
                "environment": environment(),
                "command": command_line().replace("lenet", "benchmarks/lecun1998.py", 1),
            }
        )
    )


if __name__ == "__main__":
    main()
