"""The state of one server: its model, its queues, and what it has in progress."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from lenet import __version__
from lenet.serve.batcher import Batcher
from lenet.serve.classifier import Classifier
from lenet.serve.metrics import Metrics
from lenet.serve.settings import Limits
from lenet.serve.workers import WorkerPool

Handler = Callable[[Request], Awaitable[Response]]
Routes = dict[str, tuple[str, Handler]]
"""By path: its method, and what answers. No path has a variable part, so a dict finds it."""


@dataclass(eq=False, kw_only=True)
class Service:
    """What the routes share."""

    classifier: Classifier
    limits: Limits
    num_workers: int
    key: bytes | None = None
    """Clients must send it to use the model; None lets everyone use it."""
    metrics: Metrics = field(default_factory=Metrics)
    batcher: Batcher = field(init=False)
    workers: WorkerPool = field(init=False)
    is_ready: bool = field(default=False, init=False)
    is_draining: bool = field(default=False, init=False)
    """Whether the server was told to end."""
    num_requests: int = field(default=0, init=False)
    """Requests in progress."""
    held_bytes: int = field(default=0, init=False)
    """Size of the bodies in memory."""

    def __post_init__(self) -> None:
        classifier, limits, metrics = self.classifier, self.limits, self.metrics
        self.batcher = Batcher(
            classifier.logits,
            max_waiting=limits.max_waiting_images,
            on_batch=metrics.count_batch,
        )
        self.workers = WorkerPool(
            self.num_workers,
            classifier.path,
            limit_s=limits.picture_s,
            max_waiting=limits.max_waiting_pictures,
        )
        metrics.describe(version=__version__, model=classifier.model, engine=classifier.engine)
        for name, meaning, value in (
            ("requests_in_work", "Requests in progress", lambda: self.num_requests),
            ("images_waiting", "Images waiting for the engine", lambda: self.batcher.num_waiting),
            ("pictures_waiting", "Pictures waiting for a worker", lambda: self.workers.num_waiting),
            (
                "workers_ended",
                "Workers that crashed or stalled",
                lambda: self.workers.num_ended,
            ),
        ):
            metrics.gauge(name, meaning).set_function(value)

    async def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (N, num_classes) of images (N, 28, 28) uint8, 0 = background."""
        return await self.batcher.infer(images.astype(np.float32) / np.float32(255))
