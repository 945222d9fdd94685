"""A committee of networks like the one that is trained; what they say is learned with the labels.

Each teacher is a run of its own in a folder of the run's, so a run that was stopped goes on with
the teachers and epochs that are missing. The teachers see each image distorted as the network that
learns from them sees it. Source: Hinton, Vinyals and Dean 2015; that teacher and pupil must see
the same view: Beyer et al. 2022.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet.checkpoint import load_model
from lenet.data.digits import batches
from lenet.evaluation import BatchScores
from lenet.native import Engine, NativeEngine
from lenet.recipes import Recipe
from lenet.records import RECORD_FILE, read_run_record
from lenet.training.directory import RECIPE_FILE, Run, create_run, open_run
from lenet.training.engines import logits_by
from lenet.training.sampling import Sampling

TEACHER_FOLDER = "teacher-{}"

Logits = Callable[[Tensor], Tensor]


def teacher_runs(run: Run) -> list[Run]:
    """Return the runs of a run's teachers, made where they are not there yet.

    Raises:
        RunError: A folder holds another run or can't be written.
    """
    if not run.recipe.teachers:
        return []
    recipe = teacher_recipe(run.recipe)
    runs = []
    for number in range(run.recipe.teachers):
        path = run.path / TEACHER_FOLDER.format(number + 1)
        name = f"{run.recipe_name}, teacher {number + 1} of {run.recipe.teachers}"
        if (path / RECIPE_FILE).is_file():
            runs.append(open_run(path))
        else:
            runs.append(create_run(path, name, recipe, teacher_seed(run.seed, number)))
    return runs


def teacher_recipe(recipe: Recipe) -> Recipe:
    """Return what a recipe's teachers are trained by: the same, without teachers or a cycle."""
    return replace(
        recipe,
        epochs=recipe.teacher_epochs,
        distortion_cycle=0,
        teachers=0,
        teacher_epochs=0,
        teacher_weight=0.0,
    )


def teacher_seed(seed: int, number: int) -> int:
    """Return the seed of a teacher, spread so that no two runs share one but by chance.

    Example:
        >>> teacher_seed(0, 0) == teacher_seed(0, 1)
        False
    """
    return int.from_bytes(hashlib.sha256(f"teacher {seed} {number}".encode()).digest()[:4])


class Committee:
    """What to learn from teachers and labels together, for each training image of an epoch.

    Targets of a whole epoch are computed before it, always in the same order, so that a resumed
    run has the same to the bit; where distortions come again, they are kept.
    """

    def __init__(
        self,
        teachers: Sequence[Logits],
        images: Tensor,
        labels: Tensor,
        sampling: Sampling,
        *,
        weight: float,
        label_smoothing: float,
        takes_bytes: bool,
    ) -> None:
        """Take the teachers, who say nothing yet.

        Args:
            teachers: Each returns the logits (B, C) of a batch.
            images: (N, 28, 28) uint8, the training images.
            labels: (N,) int64.
            sampling: How they are distorted.
            weight: Share of the teachers' mean probabilities in a target; the labels have the rest.
            label_smoothing: Of the labels, as in `nn.CrossEntropyLoss`.
            takes_bytes: The teachers take images as they are, where they are not distorted.
        """
        self._teachers, self._images, self.labels = teachers, images, labels
        self._sampling, self._weight = sampling, weight
        self._label_smoothing, self._takes_bytes = label_smoothing, takes_bytes
        self._by_view: dict[int, Tensor] = {}
        self._targets = torch.empty(0)
        self.places = torch.arange(len(labels), device=labels.device)
        """What a batch holds in place of labels: (N,) int64, which images they are."""

    @torch.no_grad()
    def before_epoch(self, epoch: int) -> None:
        """Compute an epoch's targets, or find them."""
        view = self._sampling.view(epoch)
        if view not in self._by_view:
            if not self._sampling.repeats:
                self._by_view.clear()
            said = [self._ask(x, labels) for x, labels in self._draw(epoch)]
            self._by_view[view] = torch.cat(said)
        self._targets = self._by_view[view]

    def targets(self, places: Tensor) -> Tensor:
        """Return the target probabilities (B, C) float32 of this epoch's images."""
        return self._targets.index_select(0, places)

    def _draw(self, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        return batches(
            self._images,
            self.labels,
            batch_size=1000,
            shuffle=False,
            as_bytes=self._takes_bytes,
            sample=self._sampling.epoch(self._images, self.labels, epoch),
        )

    def _ask(self, x: Tensor, labels: Tensor) -> Tensor:
        total = self._teachers[0](x).softmax(1)
        for teacher in self._teachers[1:]:
            total += teacher(x).softmax(1)
        num_classes = total.shape[1]
        told = F.one_hot(labels, num_classes) * (1 - self._label_smoothing)
        told = told + self._label_smoothing / num_classes
        mean = total / len(self._teachers)
        return self._weight * mean + (1 - self._weight) * told


def assemble(
    teachers: Sequence[Run],
    recipe: Recipe,
    engine: Engine | None,
    sampling: Sampling,
    images: Tensor,
    labels: Tensor,
) -> Committee | None:
    """Return the committee of finished teachers, who compute as a run's engine does, or None."""
    if not teachers:
        return None
    models = (load_model(teacher.path)[0].to(images.device) for teacher in teachers)
    return Committee(
        [logits_by(engine, model) for model in models],
        images,
        labels,
        sampling,
        weight=recipe.teacher_weight,
        label_smoothing=recipe.label_smoothing,
        takes_bytes=engine is not None,
    )


def time_of(teachers: Sequence[Run]) -> float:
    """Return the seconds that the training of finished teachers took."""
    return sum(read_run_record(teacher.path / RECORD_FILE).training_s for teacher in teachers)


def learn_from(
    committee: Committee, model: nn.Module, engine: NativeEngine | None
) -> Callable[[Tensor, Tensor], BatchScores]:
    """Return what writes the gradients of a batch (x, places) into a model's parameters.

    Args:
        committee: Says what is learned.
        model: Takes (B, 1, 28, 28), returns logits; for autograd.
        engine: The model's; None for torch's autograd.
    """
    if engine is not None:

        def compiled(x: Tensor, places: Tensor) -> BatchScores:
            labels = committee.labels.index_select(0, places)
            return engine.loss_and_gradients(x, labels, targets=committee.targets(places))

        return compiled

    def by_autograd(x: Tensor, places: Tensor) -> BatchScores:
        labels = committee.labels.index_select(0, places)
        model.zero_grad(set_to_none=True)
        logits = model(x)
        minimized = F.cross_entropy(logits, committee.targets(places))
        minimized.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        logits = logits.detach()
        return BatchScores(
            loss=float(F.cross_entropy(logits, labels)),
            num_correct=int((logits.argmax(1) == labels).sum()),
            minimized=float(minimized.detach()),
        )

    return by_autograd
