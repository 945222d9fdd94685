"""Tasks side by side on this machine, in processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import Connection

from lenet.errors import RunError
from lenet.study.tasks import LOSSES_OF_ONE_SEED, Outcome, SeedTask, run_task


def share_cores(tasks: Sequence[SeedTask], num_jobs: int, num_cores: int) -> list[SeedTask]:
    """Return the tasks with their numbers of cores: one each, the last ones what is left.

    Example: of three tasks on two cores, two at a time, the third will be alone.
    """
    num_last = len(tasks) % num_jobs or num_jobs
    shares = [num_jobs] * (len(tasks) - num_last) + [num_last] * num_last
    return [
        replace(task, max_cores=max(1, num_cores // share))
        for task, share in zip(tasks, shares, strict=True)
    ]


def run_in_processes(tasks: Sequence[SeedTask], num_jobs: int) -> Generator[Outcome]:
    """Carry tasks out, `num_jobs` at a time; whatever ends this ends the processes at once.

    Raises:
        LeNetError: What would stop every other task as well, or a process was killed.
    """
    # A forked child of a process that has used torch's threads can hang.
    spawn = multiprocessing.get_context("spawn")
    # Its other end closes when this process ends, however it ends: no worker outlives it.
    reader, writer = spawn.Pipe(duplex=False)
    pool = ProcessPoolExecutor(num_jobs, spawn, initializer=_begin_worker, initargs=(reader,))
    futures = {pool.submit(run_task, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            task = futures[future]
            try:
                yield task, future.result()
            except LOSSES_OF_ONE_SEED as error:
                yield task, error
        pool.shutdown()
    except BrokenProcessPool:
        raise RunError(
            "a process of this study was killed, perhaps for want of memory; "
            "the same command goes on with what is missing"
        ) from None
    finally:
        writer.close()
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_worker(reader: Connection) -> None:
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(reader,), daemon=True).start()


def _end_with_parent(reader: Connection) -> None:
    try:
        reader.recv()
    except (EOFError, OSError):
        # A run directory is whole at every moment, so there is nothing to tidy up.
        os._exit(1)
