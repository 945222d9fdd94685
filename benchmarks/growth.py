"""How training's time and memory grow with threads, images and batch size.

Run: `.venv/bin/python benchmarks/growth.py [--rounds 3] [--threads 2]`

Each case is a fresh process that trains `default` for one epoch with the native engine; more than
60,000 images are the training images over again. Timed is the training pass alone, after a pass
over 6,000 images to warm up. Memory is the process's largest resident set before the timed pass
(Python, torch, data) and what the pass added. Cases take turns within a round.

Prints a table of medians, then one line of JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median

import torch

from lenet.data import batches, load
from lenet.processes import num_cores
from lenet.recipes import RECIPES
from lenet.records import environment
from lenet.training import build_model, training_loop
from lenet.training.engines import build_optimizer, choose_engine, whole_step

IMAGES = [6_000, 60_000, 600_000]
BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512)


def peak_mb() -> float:
    """Return the process's largest resident set so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def measure(num_images: int, batch_size: int, num_threads: int) -> dict[str, float]:
    """Train one epoch in this process."""
    recipe = RECIPES["default"]
    train = load("mnist", "train")
    copies = -(-num_images // len(train))
    images = train.images.repeat(copies, 1, 1)[:num_images]
    labels = train.labels.repeat(copies)[:num_images]
    model = build_model(recipe, 0)
    engine = choose_engine("native", model, num_threads=num_threads)
    assert engine is not None
    optimizer = build_optimizer(recipe, list(model.parameters()), engine)
    torch.set_num_threads(1)

    def run(count: int) -> float:
        start = time.perf_counter()
        training_loop(
            model,
            torch.nn.CrossEntropyLoss(),
            optimizer,
            lambda epoch: batches(
                images[:count], labels[:count], batch_size=batch_size, as_bytes=True
            ),
            None,
            1,
            "cpu",
            print_every=0,
            learn=whole_step(engine, optimizer),
        )
        return time.perf_counter() - start

    run(6_000)
    before = peak_mb()
    seconds = run(num_images)
    return {"seconds": seconds, "before_mb": before, "added_mb": peak_mb() - before}


def main() -> int:
    """Run the cases in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--case", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*options.case)))
        return 0
    cases = [(n, 32, t) for t in sorted({1, options.threads}) for n in options.images]
    usual = min(60_000, max(options.images))
    cases += [(usual, b, options.threads) for b in options.batch_sizes if b != 32]
    results: dict[tuple[int, int, int], list[dict[str, float]]] = {case: [] for case in cases}
    for number in range(options.rounds):
        for case, found in results.items():
            command = [sys.executable, __file__, "--case", *map(str, case)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(output))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print("  images  batch  threads   seconds  us/image  added MB")
    rows = []
    for (num_images, batch_size, num_threads), found in results.items():
        row = {key: median(f[key] for f in found) for key in found[0]}
        row |= {"num_images": num_images, "batch_size": batch_size, "num_threads": num_threads}
        rows.append(row)
        print(
            f"{num_images:>8,} {batch_size:>6} {num_threads:>8} {row['seconds']:>9.2f} "
            f"{row['seconds'] / num_images * 1e6:>9.1f} {row['added_mb']:>9.1f}"
        )
    print(
        json.dumps(
            {
                "benchmark": "growth",
                "rounds": options.rounds,
                "cases": rows,
                "environment": environment(),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
