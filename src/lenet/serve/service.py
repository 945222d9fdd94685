"""What the routes share: the model, its queues, and what the server has on its hands."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lenet.serve.batcher import Batcher
from lenet.serve.classifier import Classifier
from lenet.serve.metrics import Metrics
from lenet.serve.settings import Limits
from lenet.serve.workers import WorkerPool

RETRY_AFTER_S = 1


@dataclass(eq=False, kw_only=True)
class Service:
    """The state of one server."""

    classifier: Classifier
    limits: Limits
    num_workers: int
    key: bytes | None = None
    """Who has it may use the model; None for everyone."""
    metrics: Metrics = field(default_factory=Metrics)
    batcher: Batcher = field(init=False)
    workers: WorkerPool = field(init=False)
    is_ready: bool = field(default=False, init=False)
    is_draining: bool = field(default=False, init=False)
    num_requests: int = field(default=0, init=False)
    """In work."""
    held_bytes: int = field(default=0, init=False)
    """Of bodies in memory."""

    def __post_init__(self) -> None:
        self.batcher = Batcher(
            self.classifier.logits,
            max_wait_s=self.limits.max_wait_s,
            on_batch=self.metrics.count_batch,
        )
        self.workers = WorkerPool(
            self.num_workers,
            self.classify_bytes,
            limit_s=self.limits.picture_s,
            max_wait_s=self.limits.max_picture_wait_s,
        )
        self.metrics.describe(self.classifier.model, self.classifier.engine)
        self.metrics.in_work.set_function(lambda: self.num_requests)
        self.metrics.images_waiting.set_function(lambda: self.batcher.num_waiting)
        self.metrics.pictures_waiting.set_function(lambda: self.workers.num_waiting)
        self.metrics.workers_ended.set_function(lambda: self.workers.num_ended)

    async def classify_bytes(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (N, num_classes) of images (N, 28, 28) uint8, 0 = background."""
        if not len(images):
            return np.zeros((0, len(self.classifier.classes)), np.float32)
        most = self.limits.max_images
        if len(images) <= most:
            return await self.batcher.infer(images.astype(np.float32) / np.float32(255))
        parts = [images[i : i + most] for i in range(0, len(images), most)]
        return np.concatenate([await self.classify_bytes(part) for part in parts])
