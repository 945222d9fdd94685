"""Show a run's progress: a bar on a terminal, plain lines elsewhere.

All of it goes to stderr, so that stdout holds the result and nothing else.
"""

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lenet.schema import EpochScores
from lenet.training.loop import Tally, Watcher
from lenet.training.run import Run

if TYPE_CHECKING:
    from lenet.cli.tensorboard import EventWriter

REFRESH_S = 0.2
"""Between two readings of the tally: each makes the host wait for the device."""


class DownloadBar:
    """The progress of a download; an instance is what `lenet.data` calls `progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""

    def __call__(self, name: str, num_bytes: int, total_bytes: int | None) -> None:
        """Show that `num_bytes` of the file `name` have arrived."""
        if name != self._name:
            self._name = name
            self.close()
            if self._console.is_terminal and not self._console.quiet:
                self._bar = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    DownloadColumn(),
                    TransferSpeedColumn(),
                    console=self._console,
                    transient=True,
                )
                self._bar.start()
                self._task = self._bar.add_task(name, total=total_bytes)
            else:
                self._console.print(f"fetching {name}", markup=False, highlight=False)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=num_bytes, total=total_bytes)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class TrainingView(Watcher):
    """A `Watcher` that shows loss, accuracy, images a second and the time left."""

    def __init__(
        self, console: Console, tensorboard: Path | None = None, *, quiet: bool = False
    ) -> None:
        self._console = Console(quiet=True) if quiet else console
        self._download = DownloadBar(self._console)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._tensorboard = None if tensorboard is None else _event_writer(tensorboard)
        self._num_epochs = self._num_images = self._num_done = 0
        self._start_s = self._shown_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._download.close()
        if self._bar is not None:
            self._bar.stop()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def download(self, name: str, num_bytes: int, total_bytes: int | None) -> None:
        """Show a download."""
        self._download(name, num_bytes, total_bytes)

    def start(self, run: Run, device: str, num_images: int, num_epochs_done: int) -> None:
        """Print what is trained, and start the bar."""
        self._download.close()
        self._num_epochs, self._num_images = run.recipe.epochs, num_images
        self._num_done = num_epochs_done
        goes_on = f", going on after epoch {num_epochs_done}" if num_epochs_done else ""
        self._say(
            f"{run.recipe_name}, seed {run.seed}: {num_images:,} images, "
            f"{run.recipe.epochs} epochs on {device}, in {run.path}{goes_on}"
        )
        self._start_s = time.perf_counter()
        if not self._console.is_terminal or self._console.quiet:
            return
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]:>2}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.2%}"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            # Once a tally is read, the bar may as well be drawn.
            refresh_per_second=1 / REFRESH_S,
        )
        self._bar.start()
        self._task = self._bar.add_task(
            "train",
            total=num_images * run.recipe.epochs,
            completed=num_images * num_epochs_done,
            epoch=num_epochs_done + 1,
            epochs=run.recipe.epochs,
            loss=float("nan"),
            accuracy=0.0,
            speed=0.0,
        )

    def batch(self, epoch: int, tally: Tally) -> None:
        """Move the bar, a few times a second."""
        now = time.perf_counter()
        if self._bar is None or self._task is None or now - self._shown_s < REFRESH_S:
            return
        self._shown_s = now
        done = epoch * self._num_images + tally.num_images
        here = done - self._num_done * self._num_images
        self._bar.update(
            self._task,
            completed=done,
            epoch=epoch + 1,
            loss=tally.loss,
            accuracy=tally.accuracy,
            speed=here / (now - self._start_s),
        )

    def epoch(self, scores: EpochScores) -> None:
        """Print a line for each epoch."""
        parts = [f"epoch {scores.epoch:>2}/{self._num_epochs}"]
        for split, loss, accuracy in (
            ("", scores.train_loss, scores.train_accuracy),
            ("val ", scores.val_loss, scores.val_accuracy),
            ("test ", scores.test_loss, scores.test_accuracy),
        ):
            if loss is not None:
                parts.append(f"{split}loss {loss:.4f}  {split}accuracy {accuracy:.2%}")
        parts.append(f"{scores.images_per_s:,.0f} images/s")
        left = self._num_epochs - scores.epoch
        if left:
            here = scores.epoch - self._num_done
            seconds = (time.perf_counter() - self._start_s) / here * left
            parts.append(f"{_clock(seconds)} left")
        self._say("  ".join(parts))
        if self._tensorboard is not None:
            self._tensorboard.write(scores)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _event_writer(folder: Path) -> "EventWriter":
    from lenet.cli.tensorboard import EventWriter

    return EventWriter(folder)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
