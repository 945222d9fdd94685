"""Processes that decode and read pictures, so that a bad picture costs one process at most.

A worker gets one job at a time over its standard input and answers on its standard output:
a line of JSON, then as many bytes as the line says. Nothing is pickled, because a worker decodes
strangers' pictures and its answers are not trusted either.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from lenet.errors import LeNetError
from lenet.serve.problems import ProblemError

COMMAND = (sys.executable, "-P", "-m", "lenet.serve.worker")
START_LIMIT_S = 60.0
MAX_LINE_BYTES = 2**20
MAX_ANSWER_BYTES = 2**28

logger = logging.getLogger(__name__)


class WorkerDiedError(Exception):
    """A worker ended during a job, or its answer is malformed."""


class WorkerPool:
    """The worker processes, and the queue of jobs for them."""

    def __init__(
        self, num_workers: int, model: Path, *, limit_s: float, max_waiting: int = 64
    ) -> None:
        """Prepare; `running` starts the processes.

        Args:
            num_workers: Processes.
            model: Model file they read pictures with.
            limit_s: A job that takes longer ends its worker.
            max_waiting: `require_room` refuses requests while that many jobs wait.
        """
        self._num_workers, self._model = num_workers, model
        self._limit_s, self._max_waiting = limit_s, max_waiting
        self._idle: asyncio.Queue[Process] = asyncio.Queue()
        self._processes: set[Process] = set()
        self._restarts: set[asyncio.Task[None]] = set()
        self.num_waiting = 0
        """Jobs that wait for a worker."""
        self.num_ended = 0
        """Workers that crashed or took too long."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the processes, and end them.

        Raises:
            LeNetError: One does not start.
        """
        try:
            await asyncio.gather(*(self._start() for _ in range(self._num_workers)))
            yield
        finally:
            for task in self._restarts:
                task.cancel()
            await asyncio.gather(*map(_end, self._processes))

    def require_room(self) -> None:
        """Refuse a request while too many jobs wait; one that is admitted may bring several.

        Raises:
            ProblemError: 503.
        """
        if self.num_waiting >= self._max_waiting:
            raise ProblemError(503, "too many pictures wait to be read")

    async def run(self, job: dict[str, Any], body: bytes) -> tuple[Any, bytes]:
        """Run a job of `lenet.serve.worker` on a body.

        Returns:
            Its value and the bytes that come with it.

        Raises:
            ProblemError: What the job raised; 422 if it took too long or crashed its worker.
        """
        self.num_waiting += 1
        try:
            worker = await self._idle.get()
        finally:
            self.num_waiting -= 1
        is_whole = False
        try:
            async with asyncio.timeout(self._limit_s):
                answer, rest = await _ask(worker, job, body)
            is_whole = True
        except TimeoutError:
            raise ProblemError(422, f"could not be read within {self._limit_s:g} s") from None
        except WorkerDiedError:
            raise ProblemError(422, "could not be read: its decoder crashed") from None
        finally:
            if is_whole:
                self._idle.put_nowait(worker)
            else:
                self._replace(worker)
        if "problem" in answer:
            status, detail = answer["problem"]
            raise ProblemError(int(status), str(detail))
        return answer["value"], rest

    async def _start(self) -> None:
        worker = await asyncio.create_subprocess_exec(
            *COMMAND, str(self._model), stdin=PIPE, stdout=PIPE, limit=MAX_LINE_BYTES, env=_env()
        )
        self._processes.add(worker)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await _receive(worker)
        except (WorkerDiedError, TimeoutError):
            self._processes.discard(worker)
            await _end(worker)
            raise LeNetError("a worker that reads pictures does not start") from None
        self._idle.put_nowait(worker)

    def _replace(self, worker: Process) -> None:
        self.num_ended += 1
        self._processes.discard(worker)
        task = asyncio.get_running_loop().create_task(self._restart(worker))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _restart(self, worker: Process) -> None:
        await _end(worker)
        while True:
            try:
                return await self._start()
            except (LeNetError, OSError) as error:
                logger.warning("%s; trying again", error)
                await asyncio.sleep(1)


def _env() -> dict[str, str]:
    """Return a worker's environment: import paths, and none of the server's secrets."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}


async def _ask(worker: Process, job: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    assert worker.stdin is not None
    try:
        worker.stdin.write(json.dumps({**job, "num_bytes": len(body)}).encode() + b"\n" + body)
        await worker.stdin.drain()
    except OSError:
        raise WorkerDiedError from None
    return await _receive(worker)


async def _receive(worker: Process) -> tuple[dict[str, Any], bytes]:
    assert worker.stdout is not None
    try:
        answer = json.loads(await worker.stdout.readline())
        size = answer["num_bytes"]
        if not 0 <= size <= MAX_ANSWER_BYTES or not answer.keys() & {"value", "problem"}:
            raise WorkerDiedError
        return answer, await worker.stdout.readexactly(size)
    except (asyncio.IncompleteReadError, OSError, ValueError, KeyError, TypeError):
        raise WorkerDiedError from None


async def _end(worker: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.kill()
    await worker.wait()
