"""An epoch of `default` against an epoch of the notebook's own way of feeding data.

Run: `.venv/bin/python benchmarks/notebook_ratio.py [--rounds 3] [--num-images 60000]`

The notebook's epoch: pictures one at a time through Pillow's resize and a tensor conversion, a
`DataLoader` with batches of 32, a training pass, a validation pass, and an accuracy pass over each
of the two sets. Ours: the epoch of `lenet train default` (one training pass; running accuracy) and,
so that the work done is the same, a pass over all training and test images for loss and accuracy.
Contestants take turns within each round. Excluded: start-up, loading the data, compiling the
kernels. Prints a table of seconds, then one line of JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from lenet import notebook
from lenet.data import Digits, batches, load
from lenet.evaluation import evaluate
from lenet.recipes import RECIPES
from lenet.records import environment
from lenet.training import build_model, training_loop
from lenet.training.engines import choose_engine, num_cores
from lenet.training.losses import LOSSES
from lenet.training.optimizers import OPTIMIZERS


def notebook_epoch(num_images: int, num_threads: int) -> Callable[[], None]:
    """Return a function that runs one epoch the notebook's way."""
    steps = notebook.transforms.Compose(
        [notebook.transforms.Resize((32, 32)), notebook.transforms.ToTensor()]
    )
    sets = [notebook.datasets.MNIST("mnist_data", train=t, transform=steps) for t in (True, False)]
    parts = [Subset(s, range(min(num_images, len(s)))) for s in sets]
    train, valid = (DataLoader(p, batch_size=32, shuffle=p is parts[0]) for p in parts)
    torch.manual_seed(42)
    model = notebook.LeNet5(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def run() -> None:
        torch.set_num_threads(num_threads)
        model.train()
        running_loss = 0.0
        for x, y in train:
            optimizer.zero_grad()
            loss = criterion(model(x)[0], y)
            running_loss += loss.item() * len(y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            sum(criterion(model(x)[0], y).item() * len(y) for x, y in valid)
            for loader in (train, valid):
                sum(int((model(x)[1].argmax(1) == y).sum()) for x, y in loader)

    return run


def our_epoch(engine_name: str, num_images: int, num_threads: int) -> Callable[[], None]:
    """Return a function that runs one epoch of `default`, with the same figures measured."""
    recipe = RECIPES["default"]
    train, test = (cut(load("mnist", split), num_images) for split in ("train", "test"))
    model = build_model(recipe, 0)
    engine = choose_engine(
        engine_name, model, label_smoothing=recipe.label_smoothing, num_threads=num_threads
    )
    optimizer = OPTIMIZERS[recipe.optimizer](list(model.parameters()), recipe.lr, 0.0)

    def run() -> None:
        torch.set_num_threads(num_threads if engine is None else 1)
        training_loop(
            model,
            LOSSES[recipe.loss](recipe.label_smoothing),
            optimizer,
            lambda epoch: batches(train.images, train.labels, batch_size=32, epoch=epoch),
            None,
            1,
            "cpu",
            print_every=0,
            gradients=None if engine is None else engine.loss_and_gradients,
        )
        for digits in (train, test):
            evaluate(
                model if engine is None else engine.logits,
                digits.images,
                digits.labels,
                split=digits.split,
            )

    return run


def cut(digits: Digits, num_images: int) -> Digits:
    """Return the first images."""
    return replace(digits, images=digits.images[:num_images], labels=digits.labels[:num_images])


def main() -> None:
    """Run the contestants in turns and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num-images", type=int, default=60_000, help="training images, at most")
    options = parser.parse_args()
    cores = num_cores()
    contestants = {
        f"notebook, {cores} threads": notebook_epoch(options.num_images, cores),
        "notebook, 1 thread": notebook_epoch(options.num_images, 1),
        "lenet, torch engine, 1 thread": our_epoch("torch", options.num_images, 1),
        f"lenet, native engine, {cores} threads": our_epoch("native", options.num_images, cores),
        "lenet, native engine, 1 thread": our_epoch("native", options.num_images, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    # The notebook's better setting is the one to beat.
    base = min(median(v) for name, v in seconds.items() if name.startswith("notebook"))
    print(f"{'an epoch of MNIST':<36} {'median s':>9} {'min':>7} {'max':>7} {'ratio':>7}")
    for name, values in seconds.items():
        print(
            f"{name:<36} {median(values):9.2f} {min(values):7.2f} {max(values):7.2f} "
            f"{base / median(values):6.1f}x"
        )
    print(
        json.dumps(
            {
                "benchmark": "notebook_ratio",
                "num_images": options.num_images,
                "rounds": options.rounds,
                "seconds": seconds,
                "ratios": {name: base / median(values) for name, values in seconds.items()},
                "environment": environment(),
            }
        )
    )


if __name__ == "__main__":
    main()
