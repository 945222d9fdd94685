"""Do the compiled kernels and torch walk the same way? `default` under both engines.

Run: `.venv/bin/python benchmarks/engines.py [--seeds 5] [--native STUDY.json --torch STUDY.json]`

For each seed, trains 50 steps on the real digits with each engine and compares the losses step by
step; rounding differs from the first step on and grows. With two studies of whole runs
(`lenet study default --seeds 5 --engine torch --out STUDY`), compares their test accuracies too.

Prints what was found, then one line of JSON. Fails if a loss differs by more than 1 in 1000.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev

import torch

from lenet.data import batches, load
from lenet.recipes import RECIPES
from lenet.records import environment, read_study_record
from lenet.training import build_model, training_loop
from lenet.training.engines import build_optimizer, choose_engine, whole_step
from lenet.training.losses import LOSSES

TOLERANCE = 1e-3


def losses(engine_name: str, seed: int, steps: int) -> list[float]:
    """Return the loss of each of the first steps."""
    recipe = RECIPES["default"]
    digits = load("mnist", "train")
    model = build_model(recipe, seed)
    engine = choose_engine(engine_name, model, label_smoothing=recipe.label_smoothing)
    optimizer = build_optimizer(recipe, list(model.parameters()), engine)
    sums: list[float] = []
    training_loop(
        model,
        LOSSES[recipe.loss](recipe.label_smoothing),
        optimizer,
        list(batches(digits.images, digits.labels, batch_size=32, seed=seed))[:steps],
        None,
        1,
        "cpu",
        print_every=0,
        learn=whole_step(engine, optimizer),
        measure=LOSSES[recipe.loss](0.0),
        on_batch=lambda epoch, tally: sums.append(tally.loss * tally.num_images),
    )
    return [(b - a) / 32 for a, b in zip([0.0, *sums], sums, strict=False)]


def accuracies(path: Path) -> dict[int, float]:
    """Return the test accuracies of a study by seed."""
    record = read_study_record(path)
    return {run.seed: run.test_accuracy or 0.0 for run in record.runs}


def main() -> int:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--native", type=Path)
    parser.add_argument("--torch", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    worst = []
    for seed in range(options.seeds):
        ours, theirs = (losses(name, seed, options.steps) for name in ("native", "torch"))
        worst.append(max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True)))
        print(
            f"seed {seed}: loss {theirs[0]:.4f} to {theirs[-1]:.4f} in {options.steps} steps, "
            f"largest relative difference {worst[-1]:.1e}"
        )
    result: dict[str, object] = {
        "benchmark": "engines",
        "steps": options.steps,
        "largest_relative_difference": worst,
        "environment": environment(),
    }
    if options.native and options.torch:
        native, other = accuracies(options.native), accuracies(options.torch)
        seeds = sorted(native.keys() & other.keys())
        for name, found in (("native", native), ("torch", other)):
            values = [found[seed] for seed in seeds]
            print(f"{name}: test {mean(values):.2%}, sd {stdev(values):.2%}, {len(seeds)} seeds")
            result[f"{name}_test_accuracy"] = values
    print(json.dumps(result))
    return 0 if max(worst) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
