"""Processes that read pictures, each given one at a time and ended if it takes too long."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LeNetError
from lenet.serve.frames import LENGTHS, MAX_HEADER_BYTES, pack
from lenet.serve.problems import ProblemError

COMMAND = (sys.executable, "-P", "-m", "lenet.serve.worker")
START_LIMIT_S = 60.0
READ_AHEAD_BYTES = 2**20
MAX_CLASSIFIED = 100_000
"""Images that one picture may ask for: more than the pieces of the fullest page."""

Classify = Callable[[NDArray[np.uint8]], Awaitable[NDArray[Any]]]
"""Of images (N, 28, 28) uint8, 0 = background: logits (N, num_classes)."""

logger = logging.getLogger(__name__)


class WorkerDiedError(Exception):
    """A worker ended in the middle of its work, or said what no worker says."""


class _Worker:
    """One process and the frames to and from it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._in, self._out = process, process.stdin, process.stdout

    @classmethod
    async def start(cls) -> "_Worker":
        pipe = asyncio.subprocess.PIPE
        worker = cls(
            await asyncio.create_subprocess_exec(
                *COMMAND, stdin=pipe, stdout=pipe, limit=READ_AHEAD_BYTES, env=_environment()
            )
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await worker.receive()
        except (WorkerDiedError, TimeoutError):
            await worker.end()
            raise LeNetError("a worker that reads pictures does not start") from None
        return worker

    async def send(self, header: dict[str, Any], body: bytes) -> None:
        try:
            self._in.write(pack(header, body))
            await self._in.drain()
        except (ConnectionError, OSError):
            raise WorkerDiedError from None

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        try:
            sizes = LENGTHS.unpack(await self._out.readexactly(LENGTHS.size))
            if sizes[0] > MAX_HEADER_BYTES or sizes[1] > MAX_CLASSIFIED * 28 * 28:
                raise WorkerDiedError
            header = json.loads(await self._out.readexactly(sizes[0]))
            return header, await self._out.readexactly(sizes[1])
        except (asyncio.IncompleteReadError, ConnectionError, OSError, ValueError):
            raise WorkerDiedError from None

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


def _environment() -> dict[str, str]:
    """Return a worker's environment: where to import from, and none of the server's secrets."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}


class WorkerPool:
    """Workers, and the line of those who wait for one."""

    def __init__(
        self, num_workers: int, classify: Classify, *, limit_s: float, max_wait_s: float
    ) -> None:
        """Prepare; `running` starts the processes.

        Args:
            num_workers: Processes.
            classify: Computes the logits that a worker asks for.
            limit_s: A job that takes longer ends its worker.
            max_wait_s: `require_room` refuses what would wait longer.
        """
        self._classify, self._limit_s, self._max_wait_s = classify, limit_s, max_wait_s
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers: set[_Worker] = set()
        self._restarts: set[asyncio.Task[None]] = set()
        self._num_workers = num_workers
        self.num_waiting = 0
        self.num_ended = 0
        """Workers that crashed or took too long."""
        self._mean_s = 0.1
        """Of a job, lately."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the processes, and end them.

        Raises:
            LeNetError: One does not start.
        """
        try:
            workers = [_Worker.start() for _ in range(self._num_workers)]
            for worker in await asyncio.gather(*workers):
                self._add(worker)
            yield
        finally:
            for task in self._restarts:
                task.cancel()
            await asyncio.gather(*(worker.end() for worker in self._workers))

    def _add(self, worker: _Worker) -> None:
        self._workers.add(worker)
        self._idle.put_nowait(worker)

    async def run(self, header: dict[str, Any], body: bytes) -> tuple[Any, bytes]:
        """Have a job done.

        Returns:
            Its value and the bytes with it.

        Raises:
            ProblemError: The picture is none, or takes too long.
        """
        self.num_waiting += 1
        try:
            worker = await self._idle.get()
        finally:
            self.num_waiting -= 1
        is_whole = False
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(self._limit_s):
                found = await self._talk(worker, header, body)
            is_whole = True
        except TimeoutError:
            raise ProblemError(422, f"could not be read within {self._limit_s:g} s") from None
        except WorkerDiedError:
            raise ProblemError(422, "could not be read: its decoder broke off") from None
        finally:
            self._mean_s += 0.1 * (loop.time() - start - self._mean_s)
            if is_whole:
                self._idle.put_nowait(worker)
            else:
                self._replace(worker)
        if "problem" in found[0]:
            status, detail = found[0]["problem"]
            raise ProblemError(int(status), str(detail))
        return found[0].get("value"), found[1]

    def require_room(self) -> None:
        """Refuse a request whose jobs would wait too long; one that is let in may bring several.

        Raises:
            ProblemError: 503.
        """
        wait_s = self._mean_s * self.num_waiting / max(1, self._num_workers)
        if wait_s > self._max_wait_s:
            raise ProblemError(
                503, "too many pictures wait to be read", retry_after_s=1 + int(wait_s)
            )

    async def _talk(
        self, worker: _Worker, header: dict[str, Any], body: bytes
    ) -> tuple[dict[str, Any], bytes]:
        await worker.send(header, body)
        while True:
            answer, rest = await worker.receive()
            if "classify" not in answer:
                return answer, rest
            try:
                images = np.frombuffer(rest, np.uint8).reshape(answer["classify"], 28, 28)
            except (ValueError, TypeError):
                raise WorkerDiedError from None
            logits = np.ascontiguousarray(await self._classify(images), np.float32)
            await worker.send({"shape": list(logits.shape)}, logits.tobytes())

    def _replace(self, worker: _Worker) -> None:
        self.num_ended += 1
        self._workers.discard(worker)
        task = asyncio.get_running_loop().create_task(self._restart(worker))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _restart(self, worker: _Worker) -> None:
        await worker.end()
        while True:
            try:
                self._add(await _Worker.start())
            except (LeNetError, OSError) as error:
                logger.warning("%s; trying again", error)
                await asyncio.sleep(1)
            else:
                return
