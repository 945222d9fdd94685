"""A committee of networks like the one that is trained; what they say is learned with the labels.

Each teacher is a run of its own, in the run's folder or, where seeds share them, beside it; so a
run that was stopped goes on with the teachers and epochs that are missing. The teachers see each
image distorted as the network that learns from them sees it. Source: Hinton, Vinyals and Dean
2015; that teacher and pupil must see the same view: Beyer et al. 2022.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lenet.data.digits import batches
from lenet.errors import CheckpointError
from lenet.files import replacing
from lenet.models.files import load_model
from lenet.native import Engine, NativeEngine
from lenet.results.records import RECORD_FILE, read_run_record
from lenet.results.scores import BatchScores
from lenet.schema import RunRecord
from lenet.training.engines import logits_by
from lenet.training.recipe import Recipe, without_teachers
from lenet.training.run import RECIPE_FILE, Run, create_run, open_run
from lenet.training.sampling import Sampling

TEACHER_FOLDER = "teacher-{}"

Logits = Callable[[Tensor], Tensor]


def committee_folder(run: Run) -> Path:
    """Return where a run's teachers are: in its own folder, or beside it for all seeds."""
    if not run.recipe.shared_teachers:
        return run.path
    text = json.dumps(asdict(run.recipe), sort_keys=True)
    return run.path.parent / f"teachers-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def train_teachers(run: Run, train_one: Callable[[Run], RunRecord]) -> list[Run]:
    """Train a run's teachers as far as they are not trained yet, and return their runs.

    Of runs that share them, one trains them and the others wait.

    Args:
        run: Who is to learn from them.
        train_one: Trains a run to its end.

    Raises:
        RunError: A folder holds another run or can't be written.
    """
    if not run.recipe.teachers:
        return []
    folder, seed = committee_folder(run), 0 if run.recipe.shared_teachers else run.seed
    folder.mkdir(parents=True, exist_ok=True)
    teachers = []
    with FileLock(folder / ".teachers.lock"):
        for number in range(run.recipe.teachers):
            path = folder / TEACHER_FOLDER.format(number + 1)
            if (path / RECIPE_FILE).is_file():
                teachers.append(open_run(path))
            else:
                name = f"{run.recipe_name}, teacher {number + 1} of {run.recipe.teachers}"
                recipe = teacher_recipe(run.recipe)
                teachers.append(create_run(path, name, recipe, teacher_seed(seed, number)))
            train_one(teachers[-1])
    return teachers


def teacher_recipe(recipe: Recipe) -> Recipe:
    """Return what a recipe's teachers are trained by: the same, without teachers or a cycle."""
    return replace(without_teachers(recipe), epochs=recipe.teacher_epochs, distortion_cycle=0)


def teacher_seed(seed: int, number: int) -> int:
    """Return the seed of a teacher, spread so that no two runs share one but by chance.

    Example:
        >>> teacher_seed(0, 0) == teacher_seed(0, 1)
        False
    """
    return int.from_bytes(hashlib.sha256(f"teacher {seed} {number}".encode()).digest()[:4])


class Committee:
    """What to learn from teachers and labels together, for each training image of an epoch.

    What the teachers say of a whole epoch is computed before it, always in the same order, so that
    a resumed run has the same to the bit; where distortions come again, it is kept.
    """

    def __init__(
        self,
        teachers: Sequence[Logits],
        images: Tensor,
        labels: Tensor,
        sampling: Sampling,
        *,
        num_classes: int,
        weight: float,
        label_smoothing: float,
        takes_bytes: bool,
        folder: Path | None = None,
    ) -> None:
        """Take the teachers, who say nothing yet.

        Args:
            teachers: Each returns the logits (B, C) of a batch.
            num_classes: Of what is learned; where it is one more than a teacher's, that one is
                rubbish, for which a finished model's logit is 0.
            images: (N, 28, 28) uint8, the training images.
            labels: (N,) int64.
            sampling: How they are distorted.
            weight: Share of the teachers' mean probabilities in a target; the labels have the rest.
            label_smoothing: Of the labels, as in `nn.CrossEntropyLoss`.
            takes_bytes: The teachers take images as they are, where they are not distorted.
            folder: Where what they say is kept for other runs with these teachers and views.
        """
        self._teachers, self._images, self.labels = teachers, images, labels
        self._sampling, self._weight = sampling, weight
        self._num_classes = num_classes
        self._label_smoothing, self._takes_bytes = label_smoothing, takes_bytes
        self._folder = folder
        self._by_view: dict[int, Tensor] = {}
        self._targets = torch.empty(0)
        self.places = torch.arange(len(labels), device=labels.device)
        """What a batch holds in place of labels: (N,) int64, which images they are."""

    @torch.no_grad()
    def before_epoch(self, epoch: int) -> None:
        """Ask the teachers about an epoch's images, or find what they said."""
        view = self._sampling.view(epoch)
        if view not in self._by_view:
            if not self._sampling.repeats:
                self._by_view.clear()
            self._by_view[view] = self._mix(self._said(view, epoch))
        self._targets = self._by_view[view]

    def targets(self, places: Tensor) -> Tensor:
        """Return the target probabilities (B, C) float32 of this epoch's images."""
        return self._targets.index_select(0, places)

    def _said(self, view: int, epoch: int) -> Tensor:
        """Return the mean of the teachers' probabilities (N, C)."""
        path = None if self._folder is None else self._folder / f"view-{view}.safetensors"
        if path is not None and path.is_file():
            return _read_said(path, len(self.labels)).to(self.labels.device)
        drawn = batches(
            self._images,
            self.labels,
            batch_size=1000,
            shuffle=False,
            as_bytes=self._takes_bytes,
            sample=self._sampling.epoch(self._images, self.labels, epoch),
        )
        said = torch.cat([self._ask(x) for x, _ in drawn])
        if path is not None:
            with replacing(path) as temporary:
                save_file({"probabilities": said.cpu()}, temporary)
        return said

    def _ask(self, x: Tensor) -> Tensor:
        total = torch.zeros(len(x), self._num_classes, device=self.labels.device)
        for teacher in self._teachers:
            logits = teacher(x)
            total += F.pad(logits, (0, self._num_classes - logits.shape[1])).softmax(1)
        return total / len(self._teachers)

    def _mix(self, said: Tensor) -> Tensor:
        told = F.one_hot(self.labels, self._num_classes) * (1 - self._label_smoothing)
        told = told + self._label_smoothing / self._num_classes
        return self._weight * said + (1 - self._weight) * told


def _read_said(path: Path, num_images: int) -> Tensor:
    try:
        said = load_file(path)["probabilities"]
    except (SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path}: can't be read ({error}); delete it") from None
    if len(said) != num_images:
        raise CheckpointError(
            f"{path}: expected what teachers said of {num_images} images, found {len(said)}; "
            "delete it"
        )
    return said


def assemble(
    run: Run,
    teachers: Sequence[Run],
    engine: Engine | None,
    sampling: Sampling,
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    data_sha256: dict[str, str],
) -> Committee | None:
    """Return the committee of finished teachers, who compute as a run's engine does, or None.

    Raises:
        CheckpointError: A teacher was trained on other data than the run's.
    """
    if not teachers:
        return None
    for teacher in teachers:
        if read_run_record(teacher.path / RECORD_FILE).data_sha256 != data_sha256:
            raise CheckpointError(
                f"{teacher.path}: was trained on other data than this run's; delete "
                f"{teacher.path.parent} to train its teachers again"
            )
    recipe = run.recipe
    models = (load_model(teacher.path)[0].to(images.device) for teacher in teachers)
    return Committee(
        [logits_by(engine, model) for model in models],
        images,
        labels,
        sampling,
        num_classes=num_classes,
        weight=recipe.teacher_weight,
        label_smoothing=recipe.label_smoothing,
        takes_bytes=engine is not None,
        folder=committee_folder(run) if recipe.shared_teachers and sampling.repeats else None,
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
