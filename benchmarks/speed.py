"""The speed of training and inference beside the notebook's way, `torch.compile`, ONNX Runtime.

Run: `.venv/bin/python benchmarks/speed.py engines --num-images 12000 [--record]`
     `.venv/bin/python benchmarks/speed.py [--record]`

`engines` is `lenet bench` with two contestants more. "An epoch with its scoring" is a training pass
and then loss and accuracy of training and test images; the notebook's way feeds pictures one at a
time through Pillow and a `DataLoader`, and passes over both sets as the notebook does.

`accuracy` trains `fast` for 1, 2 and 3 epochs under each seed and scores the test images
once, at the end of each run; in between it times whole epochs of the notebook's way. Times are of
training and its scoring, after the data is loaded and the kernels are compiled. How accurate 15
epochs of the notebook's way are is in records/report.json.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from harness import lenet, main, report
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lenet import notebook
from lenet.bench import run_bench
from lenet.bench.contestants import Contestants, Setup, prepare_epoch
from lenet.data.digits import Digits, load
from lenet.parallel import num_cores


class Pictures(Dataset[tuple[Tensor, int]]):
    """Digits one picture at a time, as torchvision's `MNIST`, `Resize` and `ToTensor` give them."""

    def __init__(self, digits: Digits, num_images: int) -> None:
        """Take the first images."""
        self.images, self.labels = digits.images[:num_images], digits.labels[:num_images]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index].numpy())
        stretched = np.array(picture.resize((32, 32), Image.Resampling.BILINEAR))
        return torch.from_numpy(stretched).unsqueeze(0).float().div(255), int(self.labels[index])


def notebook_epoch(num_train: int, num_scored: int, batch_size: int) -> Callable[[], None]:
    """Return an epoch of the notebook, with its passes for loss and accuracy."""
    train_loader, valid_loader = (
        DataLoader(Pictures(load("mnist", split), number), batch_size, shuffle=split == "train")
        for split, number in (("train", num_train), ("test", num_scored))
    )
    model, criterion = notebook.LeNet5(10), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run() -> None:
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x)[0], y)
            loss.item()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for x, y in valid_loader:
                criterion(model(x)[0], y).item()
            for loader in (train_loader, valid_loader):
                for x, y in loader:
                    (model(x)[1].argmax(1) == y).sum().item()

    return run


def others(setup: Setup) -> Contestants:
    """Prepare the contestants that `lenet bench` leaves out."""

    # For any batch size: the last batch of a pass is often a short one.
    def compiled(model: nn.Module) -> nn.Module:
        return cast(nn.Module, torch.compile(model, dynamic=True))

    epoch = prepare_epoch(setup, "torch", compiled=compiled)
    epoch()  # compiles
    num_train, num_scored = len(setup.digits), len(setup.scored)
    return {
        ("train", "torch.compile"): (epoch, num_train),
        ("train", "the notebook's way"): (
            notebook_epoch(num_train, num_scored, setup.batch_size),
            num_train,
        ),
    }


def engines(num_images: int = 6000, rounds: int = 5, threads: int = 0) -> dict[str, Any]:
    """Time an epoch, gradients and logits of every contestant, in turns."""
    return asdict(run_bench(num_images=num_images, rounds=rounds, num_threads=threads, more=others))


def accuracy(
    seeds: int = 30, notebook_epochs: int = 3, notebook_images: int = 60_000
) -> dict[str, Any]:
    """Train `fast` for 1 to 3 epochs under each seed, beside epochs of the notebook's way."""
    runs: list[dict[str, Any]] = []
    notebook_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            if seed % max(1, seeds // notebook_epochs) == 0 and len(notebook_s) < notebook_epochs:
                seconds = time_notebook_epoch(notebook_images)
                notebook_s.append(seconds * 60_000 / notebook_images)
            for epochs in (1, 2, 3):
                flags = ["--epochs", epochs, "--seed", seed, "--engine", "native", "--quiet"]
                record = lenet("train", "fast", *flags, "--out", f"{folder}/{epochs}-{seed}")
                run = {"epochs": epochs, "seed": seed, "seconds": record["training_s"]}
                runs.append({**run, "test_accuracy": record["test_accuracy"]})
                report(runs[-1])
    return {"seeds": seeds, "notebook_epoch_s": notebook_s, "runs": runs}


def time_notebook_epoch(num_images: int) -> float:
    """Return the seconds of one epoch of the notebook's way, on all cores."""
    epoch = notebook_epoch(num_images, num_images // 6, 32)
    before = torch.get_num_threads()
    torch.set_num_threads(num_cores())
    start = time.perf_counter()
    epoch()
    seconds = time.perf_counter() - start
    torch.set_num_threads(before)
    return seconds


if __name__ == "__main__":
    main("speed", engines, accuracy)
