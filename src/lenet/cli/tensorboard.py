"""TensorBoard event files (`lenet train --tensorboard`)."""

from pathlib import Path

from lenet.schema import EpochScores


class EventWriter:
    """TensorBoard event files, a scalar for each figure of an epoch."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, scores: EpochScores) -> None:
        """Write one epoch."""
        figures = {
            "loss/train": scores.train_loss,
            "loss/val": scores.val_loss,
            "loss/test": scores.test_loss,
            "accuracy/train": scores.train_accuracy,
            "accuracy/val": scores.val_accuracy,
            "accuracy/test": scores.test_accuracy,
            "lr": scores.lr,
            "images_per_s": scores.images_per_s,
        }
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, scores.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
