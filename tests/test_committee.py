from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from lenet.data.digits import to_input
from lenet.errors import CheckpointError, RunError
from lenet.models import LeNet5
from lenet.models.files import load_model
from lenet.native import NativeEngine, NativeUnavailableError
from lenet.results.records import read_run_record
from lenet.schema import EpochScores
from lenet.training.committee import (
    Committee,
    committee_folder,
    learn_from,
    teacher_recipe,
    teacher_seed,
)
from lenet.training.recipe import RECIPES, Recipe
from lenet.training.run import Run, create_run, open_run
from lenet.training.sampling import Sampling
from lenet.training.session import train

PUPIL = replace(
    RECIPES["fast"],
    distortions="affine",
    distortion_cycle=2,
    epochs=3,
    batch_size=16,
    ema=0.9,
    teachers=2,
    teacher_epochs=2,
    teacher_weight=0.75,
)
MODEL = "model.safetensors"


def make_models() -> list[LeNet5]:
    torch.manual_seed(0)
    return [LeNet5(activation="silu", pooling="max") for _ in range(4)]


def expected_loss(model: LeNet5, teachers: list[LeNet5], x: Tensor, labels: Tensor) -> Tensor:
    """The loss as it is written on paper, in float64: 0.7 of the teachers, 0.3 of the labels."""
    model, teachers = model.double(), [teacher.double() for teacher in teachers]
    with torch.no_grad():
        told = torch.stack([teacher(x.double()).softmax(1) for teacher in teachers]).mean(0)
    log_p = model(x.double()).log_softmax(1)
    smoothed = torch.full((len(x), 10), 0.1 / 10, dtype=torch.float64)
    smoothed[range(len(x)), labels] += 0.9
    loss: Tensor = -(0.7 * (told * log_p).sum(1) + 0.3 * (smoothed * log_p).sum(1)).mean()
    return loss


IMAGES = torch.randint(0, 256, (21, 28, 28), generator=torch.manual_seed(0)).to(torch.uint8)
LABELS = torch.arange(21) % 10


def make_committee(
    teachers: Sequence[Callable[[Tensor], Tensor]], *, takes_bytes: bool = False, **changes: Any
) -> tuple[Committee, Sampling]:
    recipe = replace(RECIPES["fast"], **changes)
    sampling = Sampling(recipe, 0, "torch", torch.device("cpu"))
    return Committee(
        teachers,
        IMAGES,
        LABELS,
        sampling,
        num_classes=10,
        weight=0.7,
        label_smoothing=0.1,
        takes_bytes=takes_bytes,
    ), sampling


@pytest.mark.parametrize("distortions", ["none", "affine"])
@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_learned_is_the_formula(
    compiled: bool, distortions: str, shared_kernels: None
) -> None:
    model, *teachers = make_models()
    engine = None
    said: list[Callable[[Tensor], Tensor]] = list(teachers)
    if compiled:
        try:
            engine = NativeEngine(model)
            said = [NativeEngine(teacher).logits for teacher in teachers]
        except NativeUnavailableError as error:
            pytest.skip(str(error))
    committee, sampling = make_committee(said, takes_bytes=compiled, distortions=distortions)
    places = torch.tensor([3, 20, 0, 7, 7])
    labels, x = LABELS[places], to_input(IMAGES[places])
    sample = sampling.epoch(IMAGES, LABELS, 2)
    if sample is not None:
        x, _ = sample(places)
    committee.before_epoch(2)
    found = learn_from(committee, model, engine)(x, places)
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    with torch.no_grad():
        logits = model(x)
    assert found.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-4)
    assert found.num_correct == int((logits.argmax(1) == labels).sum())

    model.zero_grad()
    loss = expected_loss(model, teachers, x, labels)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert found.minimized == pytest.approx(float(loss.detach()), rel=1e-5)
    for ours, parameter in zip(gradients, model.parameters(), strict=True):
        assert parameter.grad is not None
        largest = float(parameter.grad.abs().max())
        torch.testing.assert_close(ours.double(), parameter.grad, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"distortions": "none"}, [0]),
        ({"distortions": "affine"}, [0, 1, 2, 3, 4]),
        ({"distortions": "affine", "distortion_cycle": 2}, [0, 1]),
    ],
)
def test_teachers_are_asked_once_for_each_view(changes: dict[str, Any], asked: list[int]) -> None:
    seen = []

    def teacher(x: Tensor) -> Tensor:
        seen.append(epoch)
        return x.flatten(1)[:, :10]

    committee, sampling = make_committee([teacher], **changes)
    targets = []
    for epoch in range(5):
        committee.before_epoch(epoch)
        targets.append(committee.targets(torch.arange(21)))
        torch.testing.assert_close(targets[-1].sum(1), torch.ones(21))
    assert seen == asked
    for first in range(5):
        for second in range(5):
            same = sampling.view(first) == sampling.view(second)
            assert torch.equal(targets[first], targets[second]) == same


def test_a_finished_teacher_says_how_likely_rubbish_is() -> None:
    logits = torch.tensor([[2.0, -1.0], [-3.0, -4.0]])
    recipe = RECIPES["fast"]
    committee = Committee(
        [lambda x: logits],
        IMAGES[:2],
        torch.tensor([0, 2]),
        Sampling(recipe, 0, "torch", torch.device("cpu")),
        num_classes=3,
        weight=1.0,
        label_smoothing=0.0,
        takes_bytes=False,
    )
    committee.before_epoch(0)
    # Equation 9 of the paper: rubbish has the logit 0.
    odds = torch.cat([logits.exp(), torch.ones(2, 1)], dim=1)
    expected = odds / odds.sum(1, keepdim=True)
    torch.testing.assert_close(committee.targets(torch.arange(2)), expected)


def test_no_seeds_are_shared() -> None:
    seeds = {teacher_seed(seed, number) for seed in range(100) for number in range(10)}
    assert len(seeds) == 1000
    assert seeds.isdisjoint(range(1000))


@pytest.fixture
def pupil(tiny_mnist: None, tmp_path: Path) -> Run:
    run = create_run(tmp_path / "whole", "best", PUPIL, 0)
    train(run)
    return run


def test_teachers_are_runs_of_their_own(pupil: Run, tmp_path: Path) -> None:
    for number in range(2):
        teacher = open_run(pupil.path / f"teacher-{number + 1}")
        assert teacher.is_finished
        assert (teacher.recipe, teacher.seed) == (teacher_recipe(PUPIL), teacher_seed(0, number))
        alone = create_run(tmp_path / f"{number}", "alone", teacher.recipe, teacher.seed)
        train(alone)
        ours, theirs = (load_model(run.path)[0].state_dict() for run in (teacher, alone))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_teachers_and_pupil_learn_rubbish(tiny_mnist: None, tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", "robust", replace(PUPIL, pieces=30, windows=20), 0)
    record = train(run)
    assert record.num_parameters == 61_706
    for path in (run.path, run.path / "teacher-1"):
        assert load_model(path)[0].num_classes == 10


def test_the_time_of_the_teachers_counts(pupil: Run) -> None:
    runs = [pupil.path, pupil.path / "teacher-1", pupil.path / "teacher-2"]
    whole, *teachers = (read_run_record(path / "record.json") for path in runs)
    own = sum(epoch.duration_s for epoch in whole.epochs)
    assert whole.training_s == pytest.approx(own + sum(t.training_s for t in teachers))


def test_teachers_are_learned_from(pupil: Run, tmp_path: Path) -> None:
    alone: Recipe = replace(teacher_recipe(PUPIL), epochs=PUPIL.epochs)
    other = create_run(tmp_path / "alone", "fast", alone, 0)
    train(other)
    assert (pupil.path / MODEL).read_bytes() != (other.path / MODEL).read_bytes()


class _StopAfter:
    """Stops when so many epochs, of whichever run, are on the disk."""

    def __init__(self, num_epochs: int) -> None:
        self._left = num_epochs

    def download(self, *arguments: object) -> None: ...

    def start(self, run: Run, where: str, num_images: int, num_epochs_done: int) -> None: ...

    def batch(self, *arguments: object) -> None: ...

    def epoch(self, scores: EpochScores) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("num_epochs", [1, 2, 3])
def test_a_run_with_teachers_that_stops_ends_like_one_that_does_not(
    num_epochs: int, pupil: Run, tmp_path: Path
) -> None:
    run = create_run(tmp_path / "stopped", "best", PUPIL, 0)
    stops = 0
    while not run.is_finished:
        try:
            train(open_run(run.path), watcher=_StopAfter(num_epochs))
        except KeyboardInterrupt:
            stops += 1
    assert stops == 7 // num_epochs
    assert (run.path / MODEL).read_bytes() == (pupil.path / MODEL).read_bytes()


def test_seeds_may_share_teachers_and_what_they_said(
    tiny_mnist: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(PUPIL, shared_teachers=True)
    runs = [create_run(tmp_path / "study" / f"seed-{s}", "best", recipe, s) for s in (0, 1)]
    train(runs[0])
    folder = committee_folder(runs[0])
    assert folder == committee_folder(runs[1])
    assert folder.parent == tmp_path / "study"
    names = {"teacher-1", "teacher-2", "view-0.safetensors", "view-1.safetensors"}
    assert names == {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert not list(runs[0].path.glob("teacher*"))
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*") if path.name != ".lock"}
    train(runs[1])
    assert before == {path: path.stat().st_mtime_ns for path in before}
    first, second = ((run.path / MODEL).read_bytes() for run in runs)
    assert first != second

    # A run that comes first learns the same as one that finds all it needs; so does one that
    # was stopped before the second view.
    alone = create_run(tmp_path / "alone" / "seed-1", "best", recipe, 1)
    with pytest.raises(KeyboardInterrupt):
        train(alone, watcher=_StopAfter(5))
    assert (committee_folder(alone) / "view-0.safetensors").is_file()
    assert not (committee_folder(alone) / "view-1.safetensors").is_file()
    train(open_run(alone.path))
    assert (alone.path / MODEL).read_bytes() == second


def test_seeds_may_share_teachers_alone(tiny_mnist: None, tmp_path: Path) -> None:
    recipe = replace(PUPIL, shared_teachers=True, distortion_cycle=0)
    runs = [create_run(tmp_path / f"seed-{s}", "best", recipe, s) for s in (0, 1)]
    for run in runs:
        train(run)
    folder = committee_folder(runs[0])
    assert folder == committee_folder(runs[1])
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {"teacher-1", "teacher-2"}


def test_other_data_and_damaged_views_are_one_clear_error(tiny_mnist: None, tmp_path: Path) -> None:
    recipe = replace(PUPIL, shared_teachers=True)
    first, second = (create_run(tmp_path / f"seed-{s}", "best", recipe, s) for s in (0, 1))
    train(first)
    view = committee_folder(first) / "view-0.safetensors"
    view.write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"view-0\.safetensors: can't be read"):
        train(second)
    save_file({"probabilities": torch.ones(3, 10)}, view)
    with pytest.raises(CheckpointError, match="said of 60 images, found 3"):
        train(second)
    record = committee_folder(first) / "teacher-2" / "record.json"
    data = read_run_record(record).data_sha256["train"]
    record.write_text(record.read_text().replace(data, "0" * 64))
    with pytest.raises(CheckpointError, match=r"teacher-2: was trained on other data"):
        train(second)


def test_views_that_come_again_are_those_of_every_seed() -> None:
    recipe = replace(PUPIL, shared_teachers=True)
    places, drawn = torch.arange(21), []
    for seed, changes in (
        (0, {}),
        (1, {}),
        (1, {"shared_teachers": False}),
        (1, {"distortion_cycle": 0}),
    ):
        changed = replace(recipe, **changes)
        sample = Sampling(changed, seed, "torch", torch.device("cpu")).epoch(IMAGES, LABELS, 0)
        assert sample is not None
        drawn.append(sample(places)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[2], drawn[3])


def test_both_engines_learn_the_same(pupil: Run, tmp_path: Path) -> None:
    run = create_run(tmp_path / "torch", "best", PUPIL, 0)
    found = train(run, engine="torch")
    expected = read_run_record(pupil.path / "record.json")
    for ours, theirs in zip(found.epochs, expected.epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)


@pytest.mark.parametrize("shared", [False, True])
def test_a_folder_that_holds_something_else_is_named(
    shared: bool, tiny_mnist: None, tmp_path: Path
) -> None:
    run = create_run(tmp_path / "run", "best", replace(PUPIL, shared_teachers=shared), 0)
    taken = committee_folder(run) / "teacher-2"
    taken.mkdir(parents=True)
    (taken / "letters.txt").write_text("dear")
    with pytest.raises(RunError, match=r"teacher-2: .*found other files"):
        train(run)
