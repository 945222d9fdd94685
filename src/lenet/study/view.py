"""Show a study on the terminal: a line as each run ends, and a live table of the runs under way.

The table is read from the run directories, so it shows runs of other processes, and of other
machines that share the file system.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lenet.errors import LeNetError
from lenet.schema import METRICS_FILE, EpochScores, decode
from lenet.study.tasks import Outcome, SeedTask


class StudyView:
    """Progress of a study; to a file or pipe it writes the lines of finished runs alone.

    Args:
        console: Of stderr.
        show_test: Show test accuracies; a sweep does not, as nothing may be chosen by them.
        quiet: Write nothing.
    """

    def __init__(self, console: Console, *, show_test: bool, quiet: bool = False) -> None:
        self._console = Console(quiet=True) if quiet else console
        self._show_test = show_test
        self._left: list[SeedTask] = []
        self._num_tasks = self._num_jobs = 0
        self._labels: dict[SeedTask, str] = {}
        self._live = Live(
            console=self._console,
            get_renderable=self.table,
            refresh_per_second=2,
            transient=True,
        )

    def __enter__(self) -> "StudyView":
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def start(self, tasks: Sequence[SeedTask], num_jobs: int) -> None:
        """Print what begins, and open the table."""
        self._left, self._num_tasks, self._num_jobs = list(tasks), len(tasks), num_jobs
        # A sweep's runs are in a folder for each setting.
        folder, is_sweep = tasks[0].path.parent, len({task.path.parent for task in tasks}) > 1
        for task in tasks:
            setting = f"{task.path.parent.name}  " if is_sweep else ""
            self._labels[task] = f"{setting}seed {task.seed}"
        self._print(
            f"{tasks[0].recipe_name}: {len(tasks)} runs, {num_jobs} at a time, in "
            f"{folder.parent if is_sweep else folder}"
        )
        if self._console.is_terminal and not self._console.quiet:
            self._live.start()

    def end(self, outcome: Outcome) -> None:
        """Print a line for a run that ended."""
        task, record = outcome
        self._left.remove(task)
        if isinstance(record, LeNetError):
            self._print(f"{self._labels[task]}   failed: {record}")
            return
        parts = [self._labels[task], f"train {record.train_accuracy:.2%}"]
        if record.val_accuracy is not None:
            parts.append(f"val {record.val_accuracy:.2%}")
        if self._show_test:
            parts.append(f"test {record.test_accuracy:.2%}")
        self._print("   ".join([*parts, f"{record.training_s:.1f} s"]))

    def table(self) -> Table:
        """Return the runs under way, which are the first of those left, with their last epochs."""
        done = self._num_tasks - len(self._left)
        table = Table("run", "epoch", "loss", "train", "val", box=None, padding=(0, 3, 0, 0))
        table.caption = f"{done} of {self._num_tasks} runs done"
        for task in self._left[: self._num_jobs]:
            table.add_row(self._labels[task], *_last_epoch(task))
        return table

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _last_epoch(task: SeedTask) -> list[str]:
    path = task.path / METRICS_FILE
    try:
        last = path.read_bytes().splitlines()[-1]
        scores = decode(last, EpochScores, path, LeNetError)
    except (OSError, IndexError, LeNetError):
        return [f"0/{task.recipe.epochs}"]  # nothing is written yet
    val = "" if scores.val_accuracy is None else f"{scores.val_accuracy:.2%}"
    epoch = f"{scores.epoch}/{task.recipe.epochs}"
    return [epoch, f"{scores.train_loss:.4f}", f"{scores.train_accuracy:.2%}", val]
