"""How long `fast` trains to reach the report's accuracy and 99.0 %, beside the notebook's way.

Run: `.venv/bin/python benchmarks/time_to_accuracy.py [--seeds 30] [--notebook-epochs 3]`

Trains `fast` for 1, 2 and 3 epochs (3 is the recipe's own; the schedule ends with the last epoch)
under each seed. The test images are scored once, at the end of each run. In between, whole
epochs of the notebook's way are timed, its loss and accuracy passes included; its 15 epochs are 15
times their median. Times are of training and its scoring, after the data is loaded and the kernels
are compiled; how accurate 15 epochs the notebook's way are is in records/report.json.

Prints a table, then one line of JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist, mean, median, stdev

import torch

from lenet.bench.contestants import prepare_notebook_epoch
from lenet.processes import num_cores
from lenet.recipes import RECIPES
from lenet.records import environment
from lenet.training import create_run, train

EPOCHS = (1, 2, 3)
GOALS = (0.9889, 0.99)
NOTEBOOK_EPOCHS = 15


def run_fast(epochs: int, seed: int, folder: Path) -> dict[str, float]:
    """Train `fast` for so many epochs."""
    recipe = replace(RECIPES["fast"], epochs=epochs)
    record = train(create_run(folder / f"{epochs}-{seed}", "fast", recipe, seed), engine="native")
    return {
        "epochs": epochs,
        "seed": seed,
        "seconds": record.training_s,
        "test_accuracy": record.test_accuracy,
    }


def time_notebook_epoch(num_images: int) -> float:
    """Return the seconds of one epoch with its passes, as if on all images."""
    epoch = prepare_notebook_epoch(num_images, num_images // 6, 32)
    before = torch.get_num_threads()
    torch.set_num_threads(num_cores())
    start = time.perf_counter()
    epoch()
    seconds = time.perf_counter() - start
    torch.set_num_threads(before)
    return seconds * 60_000 / num_images


def main() -> int:
    """Take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--notebook-epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=60_000, help="of a notebook's epoch")
    options = parser.parse_args()
    turns = max(1, options.seeds // options.notebook_epochs)
    runs: list[dict[str, float]] = []
    notebook: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            if seed % turns == 0 and len(notebook) < options.notebook_epochs:
                notebook.append(time_notebook_epoch(options.images))
            runs += [run_fast(epochs, seed, Path(folder)) for epochs in EPOCHS]
            print(f"seed {seed} of {options.seeds}", file=sys.stderr)
    notebook_s = NOTEBOOK_EPOCHS * median(notebook)
    print(f"the notebook's way, {NOTEBOOK_EPOCHS} epochs: {notebook_s:.0f} s")
    summary = []
    for epochs in EPOCHS:
        chosen = [run for run in runs if run["epochs"] == epochs]
        accuracies = [run["test_accuracy"] for run in chosen]
        seconds = median(run["seconds"] for run in chosen)
        spread = stdev(accuracies) if len(accuracies) > 1 else 0.0
        quicker = notebook_s / seconds
        reached = {f"{goal:.2%}": sum(a >= goal for a in accuracies) for goal in GOALS}
        summary.append(
            {
                "epochs": epochs,
                "seconds": seconds,
                "times_quicker": quicker,
                "mean": mean(accuracies),
                "min": min(accuracies),
                "std": spread,
                "reached": reached,
            }
        )
        half = NormalDist().inv_cdf(0.975) * spread / len(accuracies) ** 0.5
        print(
            f"fast, {epochs} epochs: {seconds:.2f} s, {quicker:.0f} times quicker; "
            f"test {mean(accuracies):.2%} +- {half:.2%}, min {min(accuracies):.2%}; "
            + ", ".join(f"{n} of {len(chosen)} at least {goal}" for goal, n in reached.items())
        )
    print(
        json.dumps(
            {
                "benchmark": "time_to_accuracy",
                "seeds": options.seeds,
                "summary": summary,
                "notebook_epoch_s": notebook,
                "runs": runs,
                "environment": environment(),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
