"""Training: the one loop, what it minimizes and how, and a run from recipe to record."""

from lenet.training.directory import Run, create_run, open_run
from lenet.training.loop import EpochResult, get_accuracy, print_epoch, training_loop
from lenet.training.reproducible import build_model
from lenet.training.run import train
from lenet.training.watcher import Watcher

__all__ = [
    "EpochResult",
    "Run",
    "Watcher",
    "build_model",
    "create_run",
    "get_accuracy",
    "open_run",
    "print_epoch",
    "train",
    "training_loop",
]
