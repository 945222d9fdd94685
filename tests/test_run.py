import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lenet.data.datasets import Dataset
from lenet.data.digits import load
from lenet.errors import CheckpointError, RecipeError, RunError
from lenet.models.files import load_model
from lenet.results.scores import evaluate
from lenet.schema import EpochScores, RunRecord, read
from lenet.training.loop import train
from lenet.training.recipe import RECIPES, Recipe
from lenet.training.run import create_run, open_run

SMALL = replace(RECIPES["default"], num_val=0, epochs=3, batch_size=16)
MODEL, STATE = "model.safetensors", "resume.pt"


@pytest.fixture
def make(tiny_mnist: None, tmp_path: Path) -> Callable[..., Path]:
    """Train a small recipe to its end; return the run directory."""

    def run(name: str, recipe: Recipe = SMALL, seed: int = 0) -> Path:
        path = tmp_path / name
        train(create_run(path, "default", recipe, seed))
        return path

    return run


def test_a_run_leaves_what_it_promises(make: Callable[..., Path]) -> None:
    path = make("run")
    names = {p.name for p in path.iterdir()} - {".lock"}
    assert names == {
        "recipe.json", "metrics.jsonl", STATE, MODEL, "predictions.safetensors", "record.json",
    }  # fmt: skip
    record = read(path / "record.json", RunRecord)
    assert record.num_parameters == 61_706
    assert record.num_train_images == 60
    assert record.scores["test"].num_images == 20
    assert record.num_sessions == 1
    lines = (path / "metrics.jsonl").read_text().splitlines()
    assert tuple(EpochScores(**json.loads(line)) for line in lines) == record.epochs
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3]


def test_the_record_is_what_the_model_file_scores(make: Callable[..., Path]) -> None:
    path = make("run")
    record = read(path / "record.json", RunRecord)
    model, card = load_model(path)
    for split in ("train", "test"):
        digits = load("mnist", split)
        scores = evaluate(model, digits.images, digits.labels, split=split)
        assert (
            scores.accuracy
            == record.scores[split].accuracy
            == getattr(card.scores, f"{split}_accuracy")
        )
        assert scores.loss == pytest.approx(record.scores[split].loss)


def test_equal_seeds_make_equal_files_and_others_do_not(make: Callable[..., Path]) -> None:
    first = (make("a") / MODEL).read_bytes()
    torch.manual_seed(99)
    assert (make("b") / MODEL).read_bytes() == first
    assert (make("c", seed=1) / MODEL).read_bytes() != first


def test_the_callers_random_state_is_left_alone(make: Callable[..., Path]) -> None:
    before = torch.get_rng_state()
    make("a")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{"num_val": 10}, {"test_as_validation": True}, {}])
def test_epochs_are_scored_on_the_split_that_is_named(
    changes: dict[str, Any], make: Callable[..., Path]
) -> None:
    record = read(make("run", replace(SMALL, **changes)) / "record.json", RunRecord)
    last = record.epochs[-1]
    if "num_val" in changes:
        # Cut from the 60 training images, and scored after the last epoch as the record says.
        assert record.num_train_images == 50
        assert last.val_accuracy == pytest.approx(record.val_accuracy)
        assert last.test_loss is None
    elif changes:
        assert last.test_accuracy == pytest.approx(record.test_accuracy)
        assert last.val_loss is None
        assert record.val_accuracy is None
    else:
        assert last.val_loss is None
        assert last.test_loss is None


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_run_killed_at_any_write_ends_like_an_uninterrupted_one(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (make("whole") / MODEL).read_bytes()
    replace_file, writes = os.replace, 0

    def die(source: str, target: str) -> None:
        nonlocal writes
        writes += 1
        if writes == fatal:
            raise Killed
        replace_file(source, target)

    fatal, finished = 0, False
    while not finished:
        fatal += 1
        writes = 0
        path = tmp_path / f"killed-{fatal}"
        run = create_run(path, "default", SMALL, 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", die)
            try:
                train(run)
                finished = True
            except Killed:
                pass
        (path / ".model.safetensors.0123.tmp").write_bytes(b"half a file")
        record = train(open_run(path))
        assert (path / MODEL).read_bytes() == expected
        assert len(record.epochs) == len((path / "metrics.jsonl").read_text().splitlines()) == 3
        assert finished or not list(path.glob(".*.tmp"))
    # Three epochs of state and metrics, predictions, model, record: each was once the last.
    assert fatal - 1 == 3 * 2 + 3


CHILD = """
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from test_run import SMALL
from lenet.data.datasets import DATASETS, DataFile
from lenet.training.run import open_run
from lenet.training.loop import train
old = DATASETS["mnist"]
folder = Path({folder!r})
DATASETS["mnist"] = replace(old, files=tuple(
    DataFile(name=f.name, shape=s, sha256=sha256((folder / f.name).read_bytes()).hexdigest())
    for f, s in zip(old.files, [(60, 28, 28), (60,), (20, 28, 28), (20,)])
))
print("ready", flush=True)
train(open_run(Path({run!r})))
"""


def test_a_run_killed_by_the_system_ends_like_an_uninterrupted_one(
    make: Callable[..., Path], tmp_path: Path, cache: Path
) -> None:
    recipe = replace(SMALL, epochs=60)
    expected = (make("whole", recipe) / MODEL).read_bytes()
    path = tmp_path / "killed"
    create_run(path, "default", recipe, 0)
    code = CHILD.format(
        tests=str(Path(__file__).parent), folder=str(cache / "mnist"), run=str(path)
    )
    kills = 0
    for delay in (0.05, 0.3, 0.15, 60):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                assert child.wait(delay) == 0
            except subprocess.TimeoutExpired:
                kills += 1
                os.kill(child.pid, signal.SIGKILL)
    assert kills >= 1
    assert (path / MODEL).read_bytes() == expected
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 60


def test_a_finished_run_is_not_trained_again(make: Callable[..., Path]) -> None:
    path = make("run")
    before = {p.name: p.stat().st_mtime_ns for p in path.iterdir() if p.name != ".lock"}
    time.sleep(0.01)
    assert train(open_run(path)) == read(path / "record.json", RunRecord)
    assert {p.name: p.stat().st_mtime_ns for p in path.iterdir() if p.name != ".lock"} == before


def test_a_state_of_another_run_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    path, other = make("run"), tmp_path / "other"
    run = create_run(other, "default", SMALL, seed=1)
    (other / STATE).write_bytes((path / STATE).read_bytes())
    with pytest.raises(CheckpointError, match="written for another seed than this run's"):
        train(run)


def test_other_data_are_noticed(
    make: Callable[..., Path], tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make("run")
    (path / "record.json").unlink()
    state = torch.load(path / STATE, weights_only=True)
    state["identity"]["data"]["train"] = "0" * 64
    torch.save(state, path / STATE)
    with pytest.raises(CheckpointError, match="written for another data"):
        train(open_run(path))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02}q\x00."])
def test_a_damaged_state_is_one_clear_error(content: bytes, make: Callable[..., Path]) -> None:
    path = make("run")
    (path / "record.json").unlink()
    (path / STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"resume\.pt"):
        train(open_run(path))


def mutations(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The right kind of file with a wrong content, in many places."""
    values: list[Any] = [None, 7, "x", [], {}, [{}], {"epoch": 1}, torch.zeros(2)]
    for value in values:
        for key in state:
            if key != "average" or value is not None:
                yield {**state, key: value}
        for key in ("state", "param_groups"):
            yield {**state, "optimizer": {**state["optimizer"], key: value}}
        name = next(iter(state["model"]))
        yield {**state, "model": {**state["model"], name: value}}
    yield {**state, "epochs": state["epochs"] * 2}
    yield {k: v for k, v in state.items() if k != "epochs"}


def test_a_state_of_the_wrong_content_is_one_clear_error(make: Callable[..., Path]) -> None:
    path = make("run")
    expected = (path / MODEL).read_bytes()
    (path / "record.json").unlink()
    state = torch.load(path / STATE, weights_only=True)
    refused = 0
    for changed in mutations(state):
        torch.save(changed, path / STATE)
        try:
            train(open_run(path))
            (path / "record.json").unlink()
        except CheckpointError as error:
            assert "resume.pt" in str(error)  # noqa: PT017  # some are no damage
            refused += 1
    assert refused > 40
    # As the message says, without the file it trains from the start.
    (path / STATE).unlink()
    train(open_run(path))
    assert (path / MODEL).read_bytes() == expected


def test_a_second_command_into_a_run_leaves_its_files_alone(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", "default", SMALL, 0)
    half = run.path / ".resume.pt.0123.tmp"
    half.write_bytes(b"being written by the first")
    with pytest.raises(RunError, match="found a run"):
        create_run(run.path, "default", SMALL, 0)
    assert half.exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(RunError, match="found other files"):
        create_run(tmp_path, "default", SMALL, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]
    create_run(tmp_path / "run", "default", SMALL, 0)
    with pytest.raises(RunError, match="found a run"):
        create_run(tmp_path / "run", "default", SMALL, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't write this run"):
        create_run(tmp_path / "file" / "run", "default", SMALL, 0)


def test_two_processes_do_not_train_in_one_folder(tiny_mnist: None, tmp_path: Path) -> None:
    from filelock import FileLock

    run = create_run(tmp_path / "run", "default", SMALL, 0)
    with FileLock(run.path / ".lock"), pytest.raises(RunError, match="another process"):
        train(run)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"recipe_name": 3, "seed": 0, "recipe": {}}', "null"]
)
def test_a_broken_recipe_file_is_one_clear_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(RunError, match=r"recipe\.json"):
        open_run(tmp_path)


def test_seed_and_validation_size_are_checked(tiny_mnist: None, tmp_path: Path) -> None:
    for seed in (-1, 2**32):
        with pytest.raises(RecipeError, match="`seed`"):
            create_run(tmp_path / "a", "default", SMALL, seed)
    run = create_run(tmp_path / "b", "default", replace(SMALL, num_val=60), 0)
    with pytest.raises(RecipeError, match=r"`num_val` \(=60\) must be less than the 60"):
        train(run)


def test_fewer_training_images_are_those_that_are_trained_and_scored(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    path = make("run", replace(SMALL, num_train=40, num_val=10))
    record = read(path / "record.json", RunRecord)
    assert record.num_train_images == record.scores["train"].num_images == 40
    assert record.scores["val"].num_images == 10
    run = create_run(tmp_path / "many", "default", replace(SMALL, num_train=51, num_val=10), 0)
    with pytest.raises(RecipeError, match=r"`num_train` \(=51\) must be at most the 50"):
        train(run)


def test_a_full_disk_leaves_the_run_resumable(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (make("whole") / MODEL).read_bytes()
    run = create_run(tmp_path / "full", "default", SMALL, 0)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(RunError, match="No space left on device"):
            train(run)
    train(run)
    assert (run.path / MODEL).read_bytes() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_a_state_that_does_not_fit_the_disk_is_one_clear_error(
    everywhere: dict[str, str], tmp_path: Path
) -> None:
    """torch.save raises an error of its own where a write fails."""
    code = (
        "import resource, sys; from lenet.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "train = ['train', 'fast', '--epochs', '1', '--quiet', '--out'];"
        f"sys.exit(main([*train, {str(tmp_path / 'run')!r}]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=everywhere, capture_output=True, text=True
    )
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert "can't write this run" in found.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_an_epoch(name: str, tiny_mnist: None, tmp_path: Path) -> None:
    recipe = replace(
        RECIPES[name],
        epochs=1,
        num_val=min(RECIPES[name].num_val, 10),
        non_digits=min(RECIPES[name].non_digits, 20),
        lines=min(RECIPES[name].lines, 8),
    )
    record = train(create_run(tmp_path / name, name, recipe, 0))
    loss = record.epochs[0].train_loss
    if recipe.output == "linear":
        assert loss == pytest.approx(2.3, abs=0.2)
    else:  # differences of squared distances of up to 200, on noise
        assert 2 < loss < 200
