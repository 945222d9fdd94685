"""A committee of networks like the one that is trained; what they say is learned with the labels.

Each teacher is a run of its own in a folder of the run's, so a run that was stopped goes on with
the teachers and epochs that are missing. The teachers see each image distorted as the network that
learns from them sees it. Source: Hinton, Vinyals and Dean 2015; that teacher and pupil must see
the same view: Beyer et al. 2022.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet.checkpoint import load_model
from lenet.evaluation import BatchScores
from lenet.native import Engine, NativeEngine
from lenet.recipes import Recipe
from lenet.records import RECORD_FILE, read_run_record
from lenet.training.directory import RECIPE_FILE, Run, create_run, open_run
from lenet.training.engines import logits_by

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
    """Return what a recipe's teachers are trained by: the same, without teachers."""
    return replace(
        recipe, teachers=0, teacher_epochs=0, teacher_weight=0.0, epochs=recipe.teacher_epochs
    )


def teacher_seed(seed: int, number: int) -> int:
    """Return the seed of a teacher, spread so that no two runs share one but by chance.

    Example:
        >>> teacher_seed(0, 0) == teacher_seed(0, 1)
        False
    """
    return int.from_bytes(hashlib.sha256(f"teacher {seed} {number}".encode()).digest()[:4])


class Committee:
    """What to learn from teachers and labels together."""

    def __init__(
        self, teachers: Sequence[Logits], *, weight: float, label_smoothing: float
    ) -> None:
        """Take the teachers.

        Args:
            teachers: Each returns the logits (B, C) of a batch.
            weight: Share of the teachers' mean probabilities in a target; the labels have the rest.
            label_smoothing: Of the labels, as in `nn.CrossEntropyLoss`.
        """
        self._teachers, self._weight = teachers, weight
        self._label_smoothing = label_smoothing

    @torch.no_grad()
    def targets(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the target probabilities (B, C) of a batch as the teachers take it."""
        first, *others = (teacher(x).softmax(1) for teacher in self._teachers)
        total = first
        for probabilities in others:
            total = total + probabilities
        num_classes = total.shape[1]
        told = F.one_hot(labels, num_classes) * (1 - self._label_smoothing)
        told = told + self._label_smoothing / num_classes
        mean = total / len(self._teachers)
        return self._weight * mean + (1 - self._weight) * told


def assemble(
    run: Run, teachers: Sequence[Run], engine: Engine | None, device: torch.device
) -> Committee | None:
    """Return the committee of a run's finished teachers; None where it has none.

    Args:
        run: Who learns from them.
        teachers: From `teacher_runs`.
        engine: The run's; its like computes what the teachers say.
        device: Where the run's images are.
    """
    if not teachers:
        return None
    models = (load_model(teacher.path)[0].to(device) for teacher in teachers)
    return Committee(
        [logits_by(engine, model) for model in models],
        weight=run.recipe.teacher_weight,
        label_smoothing=run.recipe.label_smoothing,
    )


def time_of(teachers: Sequence[Run]) -> float:
    """Return the seconds that the training of finished teachers took."""
    return sum(read_run_record(teacher.path / RECORD_FILE).training_s for teacher in teachers)


def learn_from(
    committee: Committee, model: nn.Module, engine: NativeEngine | None
) -> Callable[[Tensor, Tensor], BatchScores]:
    """Return what writes the gradients of a batch (x, labels) into a model's parameters.

    Args:
        committee: Says what is learned.
        model: Takes (B, 1, 28, 28), returns logits; for autograd.
        engine: The model's; None for torch's autograd.
    """
    if engine is not None:

        def compiled(x: Tensor, labels: Tensor) -> BatchScores:
            return engine.loss_and_gradients(x, labels, targets=committee.targets(x, labels))

        return compiled

    def by_autograd(x: Tensor, labels: Tensor) -> BatchScores:
        model.zero_grad(set_to_none=True)
        logits = model(x)
        minimized = F.cross_entropy(logits, committee.targets(x, labels))
        minimized.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        logits = logits.detach()
        return BatchScores(
            loss=float(F.cross_entropy(logits, labels)),
            num_correct=int((logits.argmax(1) == labels).sum()),
            minimized=float(minimized.detach()),
        )

    return by_autograd
