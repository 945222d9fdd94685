"""Show a study on the terminal: a line as each run ends, and a live table of those under way.

What runs are under way is read from their directories, so it makes no difference which process,
or which machine of a shared file system, trains them.
"""

import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lenet.errors import LeNetError
from lenet.results.records import METRICS_FILE
from lenet.schema import RunRecord
from lenet.study.tasks import SeedTask

REFRESHES_A_SECOND = 2


class StudyView:
    """A `StudyWatcher` for people; to a file or pipe it writes the lines alone."""

    def __init__(self, console: Console, *, show_test: bool, quiet: bool = False) -> None:
        """Take where to write.

        Args:
            console: Of stderr.
            show_test: Show test accuracies; a sweep does not, as nothing is chosen by them.
            quiet: Write nothing.
        """
        self._console = Console(quiet=True) if quiet else console
        self._show_test = show_test
        self._tasks: Sequence[SeedTask] = ()
        self._labels: dict[SeedTask, str] = {}
        self._ended: set[SeedTask] = set()
        self._num_jobs = 1
        self._start_s, self._epochs_before = 0.0, 0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, tasks: Sequence[SeedTask], num_jobs: int) -> None:
        """Say what begins, and open the table."""
        self._tasks, self._num_jobs = tasks, num_jobs
        # A sweep's runs lie in a folder for each setting.
        many = len({task.path.parent for task in tasks}) > 1
        self._labels = {
            task: f"{task.path.parent.name}  seed {task.seed}" if many else f"seed {task.seed}"
            for task in tasks
        }
        self._say(
            f"{tasks[0].recipe_name}: {len(tasks)} runs, {num_jobs} at a time, in "
            f"{tasks[0].path.parent.parent if many else tasks[0].path.parent}"
        )
        self._start_s = time.perf_counter()
        self._epochs_before = sum(len(_epochs(task)) for task in tasks)
        if self._console.is_terminal and not self._console.quiet:
            self._live = Live(
                console=self._console,
                get_renderable=self._table,
                refresh_per_second=REFRESHES_A_SECOND,
                transient=True,
            )
            self._live.start()

    def end(self, task: SeedTask, outcome: RunRecord | LeNetError) -> None:
        """Leave a line for a run that ended, terminal or not."""
        self._ended.add(task)
        if isinstance(outcome, LeNetError):
            self._say(f"{self._labels[task]}   failed: {outcome}")
            return
        parts = [self._labels[task], f"train {outcome.train_accuracy:.2%}"]
        if outcome.val_accuracy is not None:
            parts.append(f"val {outcome.val_accuracy:.2%}")
        if self._show_test:
            parts.append(f"test {outcome.test_accuracy:.2%}")
        self._say("   ".join([*parts, f"{outcome.training_s:.1f} s"]))

    def _table(self) -> RenderableType:
        """Return the runs under way: the first of those left, as tasks are begun in order."""
        left = [task for task in self._tasks if task not in self._ended]
        table = Table(box=None, padding=(0, 3, 0, 0))
        shows_val = bool(left) and left[0].recipe.num_val > 0
        for name in ("", "epoch", "loss", "train", *(["val"] if shows_val else [])):
            table.add_column(name, justify="left" if name == "" else "right")
        for task in left[: self._num_jobs]:
            table.add_row(self._labels[task], *self._cells(task, shows_val))
        return Group(table, Text(self._summary(left)))

    def _cells(self, task: SeedTask, shows_val: bool) -> list[str]:
        epochs = _epochs(task)
        cells = [f"{len(epochs)}/{task.recipe.epochs}"]
        if epochs:
            last = epochs[-1]
            cells += [f"{last['train_loss']:.4f}", f"{last['train_accuracy']:.2%}"]
            if shows_val and last["val_accuracy"] is not None:
                cells.append(f"{last['val_accuracy']:.2%}")
        return cells

    def _summary(self, left: Sequence[SeedTask]) -> str:
        waiting = max(0, len(left) - self._num_jobs)
        says = f"{len(self._ended)} of {len(self._tasks)} done, {waiting} waiting"
        done = sum(len(_epochs(task)) for task in self._tasks) - self._epochs_before
        if done > 0:
            total = sum(task.recipe.epochs for task in self._tasks) - self._epochs_before
            elapsed = time.perf_counter() - self._start_s
            minutes, seconds = divmod(round(elapsed / done * max(0, total - done)), 60)
            says += f", about {minutes}:{seconds:02} left"
        return says

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _epochs(task: SeedTask) -> list[dict[str, Any]]:
    """Return the epochs of a run that are on the disk."""
    try:
        lines = (task.path / METRICS_FILE).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []
