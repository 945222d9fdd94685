"""Distorted training images, drawn anew in each epoch."""

import logging

import torch
from torch import Tensor

from lenet.data.digits import Sampler
from lenet.data.distortions import DISTORTIONS, draw, render
from lenet.data.marks import find_anchors
from lenet.errors import LeNetError
from lenet.native.build import NativeUnavailableError
from lenet.native.distorter import Renderer, load_renderer
from lenet.training.recipe import Recipe

logger = logging.getLogger(__name__)


class Sampling:
    """Draws the images of each epoch by their places; the same for equal (seed, epoch, place)."""

    def __init__(
        self, recipe: Recipe, seed: int, engine: str, images: Tensor, labels: Tensor
    ) -> None:
        """Choose what renders.

        Args:
            recipe: Names the distortions.
            seed: Of the run.
            engine: As for `choose_renderer`, which says what is raised.
            images: (N, 28, 28) uint8, the training images.
            labels: (N,) int64.
        """
        self._distortion = DISTORTIONS[recipe.distortions]
        self._seed, self._images, self._labels = seed, images, labels
        self._num_epochs, self._end = recipe.epochs, recipe.distortion_end
        self._anchors = find_anchors(images, labels) if self._distortion.marks else None
        self._renderer = choose_renderer(engine, images.device)

    def epoch(self, epoch: int) -> Sampler:
        """Return what draws (x, labels) of places (B,) in an epoch, counted from 0."""
        done = epoch / max(1, self._num_epochs - 1)
        distortion = self._distortion.scaled(1 + done * (self._end - 1))

        def sample(places: Tensor) -> tuple[Tensor, Tensor]:
            table = draw(distortion, places, seed=self._seed, epoch=epoch, anchors=self._anchors)
            x = self._renderer(self._images, places, table)
            return x, self._labels.index_select(0, places)

        return sample


def choose_renderer(engine: str, device: torch.device) -> Renderer:
    """Return what renders distorted images: compiled code where it can be had, or torch.

    Args:
        engine: As for `lenet.training.learners.make_learner`.
        device: Where the images are.

    Raises:
        LeNetError: "native", and it can't be had.
    """
    if engine == "torch" or device.type != "cpu":
        return render
    try:
        return load_renderer()
    except NativeUnavailableError as error:
        if engine == "native":
            raise LeNetError(f"the native engine can't be had: {error}") from None
        logger.warning("torch distorts the images, some 5 times slower than compiled: %s", error)
        return render
