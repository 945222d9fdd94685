"""Where the time of a training step goes: the kernels, drawing the batch, and the rest.

Run: `.venv/bin/python benchmarks/step.py [--batch-size 32] [--rounds 7]`

Times each part of `default`'s step alone and the whole of it, in turns; what the whole takes beyond
its parts is the loop itself, and caches that the parts alone find warmer. Also the passes that
score images. Prints the fastest round of each, since what disturbs a round only adds; then one line
of JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import torch

from lenet.data import batches, load
from lenet.evaluation import compute_logits, score_logits
from lenet.processes import num_cores
from lenet.recipes import RECIPES
from lenet.records import environment
from lenet.training import build_model, training_loop
from lenet.training.engines import build_optimizer, choose_engine, whole_step

NUM_IMAGES = 12_000


def prepare(batch_size: int, num_threads: int) -> dict[str, tuple[Callable[[], object], int]]:
    """Return what to time, and how many steps (or images) one call is."""
    digits = load("mnist", "train")
    images, labels = digits.images[:NUM_IMAGES], digits.labels[:NUM_IMAGES]
    recipe = RECIPES["default"]
    model = build_model(recipe, 0)
    engine = choose_engine("native", model, num_threads=num_threads)
    assert engine is not None
    optimizer = build_optimizer(recipe, list(model.parameters()), engine)
    take_step = whole_step(engine, optimizer)
    assert take_step is not None
    x, y = images[:batch_size], labels[:batch_size]
    steps = -(-NUM_IMAGES // batch_size)
    logits = compute_logits(engine.logits, images, takes_bytes=True)

    def draw() -> object:
        for batch in batches(images, labels, batch_size=batch_size, as_bytes=True):
            last = batch
        return last

    def gradients() -> None:
        for _ in range(steps):
            engine.loss_and_gradients(x, y)

    def adam() -> None:
        for _ in range(steps):
            optimizer.step()

    def learn() -> None:
        for _ in range(steps):
            take_step(x, y)

    def whole() -> None:
        training_loop(
            model,
            torch.nn.CrossEntropyLoss(),
            optimizer,
            lambda epoch: batches(images, labels, batch_size=batch_size, as_bytes=True),
            None,
            1,
            "cpu",
            print_every=0,
            learn=take_step,
        )

    return {
        "a whole step": (whole, steps),
        "gradients and Adam, in one call": (learn, steps),
        "drawing the batch": (draw, steps),
        "loss and gradients alone": (gradients, steps),
        "Adam alone": (adam, steps),
        "logits, an image": (
            lambda: compute_logits(engine.logits, images, takes_bytes=True),
            NUM_IMAGES,
        ),
        "scores of logits, an image": (
            lambda: score_logits(logits, labels, split="train"),
            NUM_IMAGES,
        ),
    }


def main() -> int:
    """Take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=num_cores())
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = prepare(options.batch_size, options.threads)
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(options.rounds + 1):  # the first warms up, and is never the fastest
        for name, (run, count) in parts.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], (time.perf_counter() - start) / count * 1e6)
    for name, microseconds in best.items():
        print(f"{name:<28} {microseconds:8.1f} us")
    settings = {"batch_size": options.batch_size, "num_threads": options.threads}
    print(
        json.dumps(
            {
                "benchmark": "step",
                **settings,
                "microseconds": best,
                "environment": asdict(environment()),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
