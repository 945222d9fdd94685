"""This machine's cores, and processes that work for this one and end with it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def worker_pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; whatever ends the block ends what they do at once."""
    # A forked child of a process that has used torch's threads can hang.
    spawn = multiprocessing.get_context("spawn")
    # Its other end closes when this process ends, however it ends: no worker outlives it.
    reader, writer = spawn.Pipe(duplex=False)
    pool = ProcessPoolExecutor(num_workers, spawn, initializer=_begin, initargs=(reader,))
    try:
        yield pool
        pool.shutdown()
    finally:
        writer.close()
        pool.shutdown(wait=False, cancel_futures=True)


def num_cores() -> int:
    """Return the cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(reader: Any) -> None:  # a Connection, of another class on Windows
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(reader,), daemon=True).start()


def _end_with_parent(reader: Any) -> None:
    try:
        reader.recv()
    except (EOFError, OSError):
        # What is written is whole at every moment, so there is nothing to tidy up.
        os._exit(1)
