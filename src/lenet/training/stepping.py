"""How a recipe's batches become steps: loss, learning rate, and who computes what."""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from lenet.errors import RecipeError
from lenet.models import LeNet5_1998, Network
from lenet.native import Engine, NativeEngine1998
from lenet.results.scores import BatchScores
from lenet.training.committee import Committee, learn_from
from lenet.training.engines import whole_step
from lenet.training.losses import LOSSES, rubbish_penalty
from lenet.training.recipe import Recipe
from lenet.training.schedules import lr_factor
from lenet.training.sdlm import StochasticDiagonalLM, refresh_curvature
from lenet.training.shared import ALONE, Group, shared_step, torch_gradients

PATTERNS_A_CALL = 500
"""Patterns that the compiled 1998 network learns in one call: some 25 ms, so that Ctrl-C and the
progress bar wait no longer. Changes nothing in the result."""

Step = Callable[[Tensor, Tensor], BatchScores]


class Stepping:
    """What the training loop is told of a run, beside its data."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        model: Network,
        optimizer: Optimizer,
        engine: Engine | None,
        images: Tensor,
        committee: Committee | None = None,
        group: Group = ALONE,
    ) -> None:
        """Put together what the recipe asks for.

        Args:
            recipe: What is run.
            seed: Of the run.
            model: What is trained.
            optimizer: Of its parameters.
            engine: Who computes gradients; None for torch.
            images: (N, 28, 28) uint8, the training images.
            committee: Whom it learns from, beside the labels.
            group: The processes that share each batch.

        Raises:
            RecipeError: This recipe's steps can't be shared.
        """
        self._recipe, self._seed, self._images = recipe, seed, images
        self._model, self._optimizer = model, optimizer
        self._steps = math.ceil(len(images) / recipe.batch_size)
        self.criterion: nn.Module = LOSSES[recipe.loss](recipe.label_smoothing, recipe.map_j)
        # What is learned from may be smoothed labels or penalties; figures are of plain
        # cross-entropy, of the labels as they are.
        is_plain = recipe.loss == "cross_entropy" and not recipe.label_smoothing
        self.measure: nn.Module | None = None if is_plain else nn.CrossEntropyLoss()
        self.gradients: Step | None = None if engine is None else engine.loss_and_gradients
        self.learn: Step | None = whole_step(engine, optimizer)
        if group.world_size > 1:
            if recipe.optimizer == "sdlm":
                raise RecipeError(
                    "`optimizer` (=sdlm) learns one image at a time: nothing to share among "
                    f"{group.world_size} processes"
                )
            gradients = self.gradients or torch_gradients(model, self.criterion, self.measure)
            self.learn = shared_step(group, gradients, list(model.parameters()), optimizer)
        self.before_epoch: Callable[[int], None] | None = None
        if committee is not None:
            assert not isinstance(engine, NativeEngine1998)
            self.learn, self.gradients = None, learn_from(committee, model, engine)
            self.before_epoch = committee.before_epoch
        self.images_a_batch = recipe.batch_size
        if isinstance(optimizer, StochasticDiagonalLM):
            self.before_epoch = self._refresh_curvature
            if isinstance(engine, NativeEngine1998):
                self.learn = lambda x, labels: engine.learn(x, labels, optimizer.rates())
                self.images_a_batch = PATTERNS_A_CALL

    def lr_at(self, epoch: int, index: int) -> float:
        """Return the learning rate of a step of an epoch, both from 0."""
        recipe = self._recipe
        if isinstance(self._optimizer, StochasticDiagonalLM):
            index = 0  # the paper's rates are fixed within a pass
        num_steps = recipe.epochs * self._steps
        return recipe.lr * lr_factor(
            recipe.schedule,
            epoch * self._steps + index,
            num_steps=num_steps,
            num_warmup_steps=round(recipe.warmup * num_steps),
        )

    def order_of(self, epoch: int) -> int:
        """Return the epoch whose order an epoch's images are drawn in."""
        return 0 if self._recipe.order == "constant" else epoch

    def _refresh_curvature(self, epoch: int) -> None:
        assert isinstance(self._optimizer, StochasticDiagonalLM)
        assert isinstance(self._model, LeNet5_1998)
        refresh_curvature(
            self._optimizer,
            self._model,
            self._images,
            rubbish=rubbish_penalty(self.criterion),
            running=self._recipe.curvature == "running",
            seed=self._seed,
            epoch=epoch,
        )
