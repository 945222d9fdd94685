"""The paper's Figs. 5 and 6 from our runs, and the road from its network to the common one.

Run: `.venv/bin/python benchmarks/lecun1998.py PART [--seeds 5] [--record]`

PART is one of
  passes  Fig. 5: error against passes. Scores the test images after each pass, for the figure
          alone; nothing is chosen by it. The other parts score them once, at the end.
  sizes   Fig. 6: error for 15,000 and 30,000 training images (60,000: `lenet study lecun1998`).
  road    from `lecun1998` to `default` and beyond, one change at a time.

Runs lie in runs/lecun1998-PART, so a script that was stopped continues with what is missing.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness import main, report

from lenet.results.statistics import summarize
from lenet.schema import RunRecord, read
from lenet.study.study import run_study
from lenet.training.recipe import RECIPES, Recipe

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
Studies = list[tuple[str, str, Recipe]]
"""Name, title and recipe of each."""


def passes(seeds: int = 5, epochs: int = 20, num_train: int = 0, jobs: int = 1) -> dict[str, Any]:
    """Score the test images after each pass."""
    recipe = replace(PAPER, test_as_validation=True, epochs=epochs, num_train=num_train)
    return run_studies("passes", [("passes", "", recipe)], seeds, jobs)


def sizes(seeds: int = 5, epochs: int = 20, jobs: int = 1) -> dict[str, Any]:
    """Train on fewer images."""
    studies = [
        (f"{size}", f"{size:,} images", replace(PAPER, num_train=size, epochs=epochs))
        for size in SIZES
    ]
    return run_studies("sizes", studies, seeds, jobs)


def road(seeds: int = 5, epochs: int = 3, num_train: int = 0, jobs: int = 1) -> dict[str, Any]:
    """Make one change after the other."""
    recipe, studies = replace(PAPER, epochs=epochs, num_train=num_train), []
    for name, title, changes in ROAD:
        recipe = replace(recipe, **changes)
        studies.append((name, title, recipe))
    return run_studies("road", studies, seeds, jobs)


def run_studies(part: str, studies: Studies, num_seeds: int, num_jobs: int) -> dict[str, Any]:
    """Run studies, and return each with its errors in %, at the end and after each pass."""
    found = []
    for name, title, recipe in studies:
        folder, seeds = Path("runs") / f"lecun1998-{part}" / name, range(num_seeds)
        run_study(folder, name, recipe, seeds, num_jobs=num_jobs)
        runs = [read(folder / f"seed-{seed}" / "record.json", RunRecord) for seed in seeds]
        epochs = list(zip(*[run.epochs for run in runs], strict=True))
        figures: dict[str, Any] = {
            "test_error": errors([run.test_accuracy for run in runs]),
            "train_error": errors([run.train_accuracy for run in runs]),
            "train_error_by_pass": [errors([e.train_accuracy for e in each]) for each in epochs],
            "training_s": asdict(summarize([run.training_s for run in runs])),
        }
        if recipe.test_as_validation:
            figures["test_error_by_pass"] = [
                errors([e.test_accuracy or 0.0 for e in each]) for each in epochs
            ]
        report(f"{name}: test error {figures['test_error']['mean']:.2f} %, {num_seeds} seeds")
        found.append({"name": name, "title": title, "recipe": asdict(recipe), **figures})
    return {"studies": found}


def errors(accuracies: Sequence[float]) -> dict[str, Any]:
    """Return the summary over seeds of the error, in %."""
    return asdict(summarize([100 * (1 - accuracy) for accuracy in accuracies]))


if __name__ == "__main__":
    main("lecun1998", passes, sizes, road)
