"""`torchrun -m lenet train`: this process's part of a run that several processes train."""

import logging
import os
from collections.abc import Sequence

from lenet.cli.train import (
    TrainOptions,
    default_paths,
    find_run,
    train_and_print,
    train_silently,
)
from lenet.errors import LeNetError
from lenet.training.loop import Watcher, choose_device
from lenet.training.run import RECIPE_FILE, Run, open_run
from lenet.training.shared import SharedRun, joined


def train_shared(options: TrainOptions, name: str, arguments: Sequence[str]) -> int:
    """Train with the other processes; the first one finds the run and prints."""
    with joined(choose_device(options.device)) as group:
        if group.is_first:
            run = group.from_first(lambda: find_shared_run(options, name, arguments))
            train_and_print(SharedRun.of(run, group), options)
            return 0
        logging.disable()
        try:
            # Nothing is read or written here: the run comes from the first process.
            run = group.from_first(_called_in_process_0)
            train_silently(SharedRun.of(run, group), options, Watcher())
        except LeNetError:
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None
    return 0


def _called_in_process_0() -> Run:
    raise AssertionError("called in process 0 alone")


def find_shared_run(options: TrainOptions, name: str, arguments: Sequence[str]) -> Run:
    """Return the run that a command asks for.

    `torchrun` starts the same command again when a process ended or a machine came or went; the
    run of the first start is then continued.
    """
    is_restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    paths = [options.out] if options.out else default_paths(options, name)[:-1]
    if not options.resume and paths and (paths[-1] / RECIPE_FILE).is_file():
        run = open_run(paths[-1])
        is_same = run.recipe == options.settings and run.seed == (options.seed or 0)
        if is_same and (is_restart or not run.is_finished):
            return run
    return find_run(options, name, arguments)
