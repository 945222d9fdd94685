"""Batching: images that wait at the same time go through the network together.

A batch is whatever waits when the engine is free. No request waits for others to arrive, and the
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
"""Images in a batch of several requests; a single request may have more."""
INLINE_S = 0.001
"""A batch that takes less than this is computed on the event loop: a thread switch and back costs
as much as several images."""


class Batcher:
    """Joins the images of several requests into one call of the engine; for one event loop."""

    def __init__(
        self,
        logits: Logits,
        *,
        max_waiting: int = 4096,
        on_batch: Callable[[int, float], None] = lambda num_images, seconds: None,
    ) -> None:
        """Warm up the engine and measure how many images it computes in `INLINE_S`.

        Args:
            logits: The engine; called by one thread at a time.
            max_waiting: Images that may wait; requests above are refused.
            on_batch: Called after each batch with its number of images and its seconds.
        """
        self._logits, self._on_batch, self._max_waiting = logits, on_batch, max_waiting
        self._queue: deque[tuple[Floats, asyncio.Future[Floats]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._is_busy = False
        self.num_waiting = 0
        """Images in no batch yet."""
        self.max_inline = 0
        """Images that are computed on the event loop."""
        while self.max_inline < MAX_BATCH:
            x = np.zeros((max(1, 2 * self.max_inline), 28, 28), np.float32)
            if min(self._compute(x)[1] for _ in range(4)) > INLINE_S:
                break
            self.max_inline = len(x)

    async def infer(self, x: Floats) -> Floats:
        """Return the logits (N, num_classes) of images (N, 28, 28) float32 in [0, 1].

        Raises:
            ProblemError: 503, too many images wait already.
        """
        if self.num_waiting > self._max_waiting:
            raise ProblemError(503, "too many images wait to be classified")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Floats] = loop.create_future()
        self._queue.append((x, future))
        self.num_waiting += len(x)
        if not self._is_busy:
            self._is_busy = True
            # Later, so that requests that arrived together are in the first batch.
            loop.call_soon(self._run_batch)
        return await future

    def close(self) -> None:
        """End the engine's thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run_batch(self) -> None:
        batch = self._take_batch()
        if not batch:
            self._is_busy = False
            return
        x = np.concatenate([x for x, _ in batch])
        if len(x) <= self.max_inline:
            self._deliver(batch, *self._compute(x))
        else:
            task = asyncio.get_running_loop().run_in_executor(self._thread, self._compute, x)
            task.add_done_callback(lambda task: self._deliver(batch, *task.result()))

    def _take_batch(self) -> list[tuple[Floats, asyncio.Future[Floats]]]:
        batch: list[tuple[Floats, asyncio.Future[Floats]]] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0][0]) <= MAX_BATCH):
            x, future = self._queue.popleft()
            self.num_waiting -= len(x)
            if not future.done():  # its request was cancelled
                batch.append((x, future))
                size += len(x)
        return batch

    def _compute(self, x: Floats) -> tuple[Floats | Exception, float]:
        start = perf_counter()
        try:
            return self._logits(x), perf_counter() - start
        except Exception as error:  # raised in each request of the batch
            return error, perf_counter() - start

    def _deliver(
        self,
        batch: list[tuple[Floats, "asyncio.Future[Floats]"]],
        result: Floats | Exception,
        seconds: float,
    ) -> None:
        start = 0
        for x, future in batch:
            if not future.done():
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result[start : start + len(x)])
            start += len(x)
        self._on_batch(start, seconds)
        asyncio.get_running_loop().call_soon(self._run_batch)
