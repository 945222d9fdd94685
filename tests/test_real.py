"""What needs the real digits or a package registry; `scripts/test -m ""` runs it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.real


def run(*command: str | Path, cwd: Path) -> str:
    # The caller's own environment must not stand in for the one under test.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    found = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=environment
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_one_epoch_on_the_real_digits_lands_inside_a_range(engine: str, tmp_path: Path) -> None:
    lenet = (sys.executable, "-m", "lenet", "train", "--epochs", "1", "--quiet", "--json")
    record = json.loads(run(*lenet, "--engine", engine, "--out", tmp_path / "run", cwd=tmp_path))
    assert record["num_train_images"] == 55_000
    assert record["scores"]["test"]["num_images"] == 10_000
    # Seeds 0 to 9 gave 97.3 to 97.6 % test and 97.6 to 97.9 % training accuracy. Much more after
    # one epoch would mean that something leaked.
    assert 0.970 <= record["test_accuracy"] <= 0.979
    assert 0.972 <= record["train_accuracy"] <= 0.983
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000


def test_doubtful_labels_are_those_of_the_real_digits() -> None:
    from lenet.data.digits import load
    from lenet.data.label_errors import MNIST_TEST_ERRORS

    labels = load("mnist", "test").labels
    assert len({error.image for error in MNIST_TEST_ERRORS}) == 15
    for error in MNIST_TEST_ERRORS:
        assert labels[error.image] == error.label != error.other
        votes = error.votes_label, error.votes_other, error.votes_neither
        assert error.votes_label < 3
        assert sum(votes) == 5


def test_the_built_wheel_runs_in_an_empty_environment(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("lenet-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    # Without a pip of its own and without compiling what nobody will import: half of the time.
    there = ("--python", tmp_path / "venv" / "bin" / "python", "install", "--no-compile")
    constraints = ROOT / "constraints.txt"
    torch = next(line for line in constraints.read_text().splitlines() if line.startswith("torch="))
    # First and by its exact version, as scripts/setup.py does: some indexes then give a CPU build.
    run(*pip, *there, "-c", constraints, torch, cwd=tmp_path)
    run(*pip, *there, "-c", constraints, wheel, cwd=tmp_path)
    lenet = tmp_path / "venv" / "bin" / "lenet"
    assert run(lenet, "--version", cwd=tmp_path).startswith("lenet ")
    run(lenet, "train", "--epochs", "1", "--batch-size", "256", "--quiet", cwd=tmp_path)
    found = json.loads(run(lenet, "evaluate", "runs/default-seed0", "--json", cwd=tmp_path))
    assert found["accuracy"] > 0.9
    assert (tmp_path / "runs" / "default-seed0" / "report.html").is_file()


def test_the_paper_s_effective_rates_of_the_first_pass(tmp_path: Path) -> None:
    """From about 7e-5 to 0.016, says section III.B; ours: 8e-5 to 1e-4, and 0.011 to 0.020."""
    import torch

    from lenet.data.digits import load
    from lenet.models import build_network
    from lenet.training.learners import make_learner
    from lenet.training.recipe import RECIPES
    from lenet.training.sdlm import StochasticDiagonalLM

    recipe, images = RECIPES["lecun1998"], load("mnist", "train").images
    for seed in range(3):
        learner = make_learner(recipe, build_network(recipe, seed), seed=seed)
        learner.begin_epoch(0, images)
        assert isinstance(learner.optimizer, StochasticDiagonalLM)
        learner.set_lr(recipe.lr)
        rates = torch.cat([rate.flatten() for rate in learner.optimizer.rates()])
        assert 5e-5 < float(rates.min()) < 1.3e-4
        assert 0.009 < float(rates.max()) < 0.022


def test_a_seed_in_company_is_the_seed_alone(tmp_path: Path) -> None:
    from lenet.training.loop import train
    from lenet.training.recipe import RECIPES
    from lenet.training.run import create_run

    name, recipe = "lecun1998-distorted", {"epochs": 2, "num_train": 1500}
    flags = ("--epochs", "2", "--num-train", "1500", "--seeds", "2", "--jobs", "2")
    study = (sys.executable, "-m", "lenet", "study", name, *flags, "--out", "company")
    run(*study, cwd=tmp_path)
    for seed in range(2):
        path = tmp_path / f"{seed}"
        train(create_run(path, name, replace(RECIPES[name], **recipe), seed))  # type: ignore[arg-type]  # of a recipe
        alone = (path / "model.safetensors").read_bytes()
        company = tmp_path / "company" / f"seed-{seed}" / "model.safetensors"
        assert company.read_bytes() == alone


def test_bench_measures_every_contestant(tmp_path: Path) -> None:
    lenet = (sys.executable, "-m", "lenet", "bench", "--num-images", "64", "--rounds", "1")
    record = json.loads(run(*lenet, cwd=tmp_path).splitlines()[-1])
    assert record["left_out"] == {}
    names = {(r["discipline"], r["name"]) for r in record["results"]}
    assert {("train", "native"), ("train", "torch")} <= names
    assert ("infer 1000", "ONNX Runtime") in names
    assert all(r["images_per_s"] > 0 for r in record["results"])
