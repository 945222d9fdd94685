"""What a run tells whoever watches it."""

from typing import Protocol

from lenet.schema import EpochScores
from lenet.training.loop import Tally
from lenet.training.run import Run


class Watcher(Protocol):
    """Told of a run's progress; every method returns at once."""

    def download(self, name: str, num_bytes: int, total_bytes: int | None) -> None:
        """Called as a file of the data set arrives."""

    def start(self, run: Run, device: str, num_images: int, num_epochs_done: int) -> None:
        """Called when training begins or goes on."""

    def batch(self, epoch: int, tally: Tally) -> None:
        """Called after each step; `epoch` is 0 for the first."""

    def epoch(self, scores: EpochScores) -> None:
        """Called after each epoch, when its state is safe on the disk."""
