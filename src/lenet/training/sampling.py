"""What a run's batches hold: the images as they are, or distorted as the recipe asks."""

import torch
from torch import Tensor

from lenet.data.digits import Sampler
from lenet.data.distortions import DISTORTIONS, draw
from lenet.data.marks import Anchors, find_anchors
from lenet.native import Renderer
from lenet.training.engines import choose_renderer
from lenet.training.recipe import Recipe


class Sampling:
    """Draws the images of each epoch by their places; the same for equal (seed, epoch, place)."""

    def __init__(self, recipe: Recipe, seed: int, engine: str, device: torch.device) -> None:
        """Choose who renders.

        Args:
            recipe: Names the distortions.
            seed: Of the run; not asked where a committee is shared and its views come again, which
                are all runs' then.
            engine: As for `choose_renderer`, which says what is raised.
            device: Where the images will be.
        """
        self._distortion = DISTORTIONS[recipe.distortions]
        self._seed = 0 if recipe.shared_teachers and recipe.distortion_cycle else seed
        self._num_epochs, self._end = recipe.epochs, recipe.distortion_end
        self._cycle = recipe.distortion_cycle
        self._anchors: Anchors | None = None
        self._renderer: Renderer | None = None
        if recipe.distortions != "none":
            self._renderer = choose_renderer(engine, device)

    @property
    def repeats(self) -> bool:
        """Whether images look the same again in later epochs."""
        return self._renderer is None or self._cycle > 0

    def view(self, epoch: int) -> int:
        """Return a number that epochs share in which every image looks the same."""
        if self._renderer is None:
            return 0
        return epoch % self._cycle if self._cycle else epoch

    def epoch(
        self, images: Tensor, labels: Tensor, epoch: int, *, answers: Tensor | None = None
    ) -> Sampler | None:
        """Return what draws (x, labels) in an epoch; None to take the images as they are.

        Args:
            images: (N, 28, 28) uint8.
            labels: (N,) int64.
            epoch: Counted from 0.
            answers: (N,) int64, what is drawn with the images in place of their labels.
        """
        renderer = self._renderer
        if renderer is None:
            return None

        if self._anchors is None and self._distortion.marks:
            self._anchors = find_anchors(images, labels)
        anchors = self._anchors
        done = epoch / max(1, self._num_epochs - 1)
        distortion = self._distortion.scaled(1 + done * (self._end - 1))
        drawn = labels if answers is None else answers
        view = self.view(epoch)

        def sample(places: Tensor) -> tuple[Tensor, Tensor]:
            table = draw(distortion, places, seed=self._seed, epoch=view, anchors=anchors)
            return renderer(images, places, table), drawn.index_select(0, places)

        return sample
