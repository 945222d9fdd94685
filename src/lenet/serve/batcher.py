"""Requests that wait at the same time go through the network together.

A batch is whatever waits when the engine is free: no request waits for others to come, and the
busier the server, the larger its batches.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.serve.problems import ProblemError

Floats = NDArray[Any]
Logits = Callable[[Floats], Floats]

MAX_BATCH = 256
"""Images of a batch made of several requests; one request may have more."""
INLINE_S = 0.001
"""A batch that takes less is computed where it is, on the event loop: a trip to a thread and back
takes as long as several images, and others wait no longer than for a request to be parsed."""


class Batcher:
    """Puts images of several requests into one call; for one event loop."""

    def __init__(
        self,
        logits: Logits,
        *,
        max_wait_s: float = 1.0,
        on_batch: Callable[[int, float], None] = lambda n, s: None,
    ) -> None:
        """Measure the engine, which is warm afterwards.

        Args:
            logits: The engine; called by one thread at a time.
            max_wait_s: Images that would wait longer than this are refused.
            on_batch: Told the images of each batch and the seconds it took.
        """
        self._logits, self._on_batch, self._max_wait_s = logits, on_batch, max_wait_s
        self._queue: deque[tuple[Floats, asyncio.Future[Floats]]] = deque()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._is_busy = False
        self.num_waiting = 0
        """Images that no batch has taken yet."""
        self._image_s = 0.0
        """What an image takes of the engine's time, lately."""
        self.max_inline = self._measure_inline()
        """Images that are computed on the event loop."""

    def _measure_inline(self) -> int:
        most, size = 0, 1
        while size <= MAX_BATCH:
            x = np.zeros((size, 28, 28), np.float32)
            seconds = []
            for _ in range(4):
                start = perf_counter()
                self._logits(x)
                seconds.append(perf_counter() - start)
            self._image_s = min(seconds) / size
            if min(seconds) > INLINE_S:
                break
            most, size = size, size * 2
        return most

    async def infer(self, x: Floats) -> Floats:
        """Return the logits (N, num_classes) of images (N, 28, 28) float32 in [0, 1].

        Raises:
            ProblemError: 503, those who wait already are enough.
        """
        wait_s = self.num_waiting * self._image_s
        if wait_s > self._max_wait_s:
            raise ProblemError(
                503, "too many images wait to be classified", retry_after_s=1 + int(wait_s)
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Floats] = loop.create_future()
        self._queue.append((x, future))
        self.num_waiting += len(x)
        if not self._is_busy:
            self._is_busy = True
            # After the requests that have arrived with this one.
            loop.call_soon(self._next)
        return await future

    def close(self) -> None:
        """End the engine's thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> None:
        """Take the next batch."""
        taken: list[tuple[Floats, asyncio.Future[Floats]]] = []
        size = 0
        while self._queue and (not taken or size + len(self._queue[0][0]) <= MAX_BATCH):
            x, future = self._queue.popleft()
            self.num_waiting -= len(x)
            if not future.done():  # its request has been given up
                taken.append((x, future))
                size += len(x)
        if not taken:
            self._is_busy = False
            return
        x = np.concatenate([x for x, _ in taken])
        if size <= self.max_inline:
            self._deliver(taken, *self._compute(x))
            self._go_on()
            return
        task = asyncio.get_running_loop().run_in_executor(self._executor, self._compute, x)

        def done(task: "asyncio.Future[tuple[Floats | BaseException, float]]") -> None:
            self._deliver(taken, *task.result())
            self._go_on()

        task.add_done_callback(done)

    def _go_on(self) -> None:
        if self._queue:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._is_busy = False

    def _compute(self, x: Floats) -> tuple[Floats | BaseException, float]:
        start = perf_counter()
        try:
            return self._logits(x), perf_counter() - start
        except Exception as error:  # every request of the batch is told
            return error, perf_counter() - start

    def _deliver(
        self,
        taken: list[tuple[Floats, "asyncio.Future[Floats]"]],
        result: Floats | BaseException,
        seconds: float,
    ) -> None:
        size = sum(len(x) for x, _ in taken)
        self._image_s += 0.1 * (seconds / size - self._image_s)
        self._on_batch(size, seconds)
        start = 0
        for x, future in taken:
            if not future.done():
                if isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result[start : start + len(x)])
            start += len(x)
