import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch._C._distributed_c10d import HashStore
from torch.distributed.distributed_c10d import Store

from lenet.cli.torchrun import find_shared_run
from lenet.cli.train import TrainOptions, find_run
from lenet.errors import RecipeError, RunError
from lenet.models import LeNet5, build_network
from lenet.schema import RunRecord, read
from lenet.training.learners import Tally, TorchLearner, make_learner
from lenet.training.loop import train
from lenet.training.recipe import RECIPES
from lenet.training.run import create_run
from lenet.training.shared import Group, SharedLearner, agreed_store, joined

SMALL = replace(RECIPES["default"], num_val=0, epochs=3, batch_size=16)
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Meeting:
    """Sums tensors over threads, as processes do with gloo."""

    def __init__(self, num_threads: int) -> None:
        self._barrier = threading.Barrier(num_threads)
        self._values: list[Tensor] = []

    def sum(self, values: Tensor) -> Tensor:
        self._values.append(values)
        self._barrier.wait()
        total = torch.stack(self._values).sum(0)
        if self._barrier.wait() == 0:
            self._values.clear()
        self._barrier.wait()
        return total


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize(("batch_size", "world_size"), [(16, 2), (16, 3), (7, 2), (2, 3), (1, 2)])
def test_a_step_of_shares_is_the_step_of_the_batch(
    engine: str, batch_size: int, world_size: int, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if engine == "native":
        if not any(map(shutil.which, ("g++", "clang++", "c++"))):
            pytest.skip("no C++ compiler here")
        request.getfixturevalue("shared_kernels")
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch_size, 1, 28, 28, generator=generator)
    labels = torch.randint(0, 10, (batch_size,), generator=generator)
    meeting = Meeting(world_size)
    monkeypatch.setattr(Group, "sum", lambda self, values: meeting.sum(values))

    recipe = replace(SMALL, optimizer="sgd", batch_size=batch_size + 1)

    def learner_of(model: LeNet5) -> TorchLearner:
        return make_learner(recipe, model, engine=engine)

    def step(rank: int, world_size: int) -> None:
        mine = slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)
        learner = SharedLearner(learner_of(networks[rank]), Group(rank, world_size))
        assert learner.engine == engine
        scores[rank] = learner.step(x[mine], labels[mine], 0.1)
        models[rank] = [p.detach() for p in networks[rank].parameters()]

    # Not in the threads: PyTorch's generator is one for all.
    networks = [small_network() for _ in range(world_size)]
    scores: dict[int, Tally] = {}
    models: dict[int, Sequence[Tensor]] = {}
    threads = [threading.Thread(target=step, args=(r, world_size)) for r in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = small_network()
    expected = learner_of(whole).step(x, labels, 0.1)
    for rank in range(world_size):
        for ours, p in zip(models[rank], whole.parameters(), strict=True):
            torch.testing.assert_close(ours, p.detach(), rtol=1e-5, atol=1e-7)
        assert scores[rank].loss == scores[0].loss
    assert scores[0].num_images == batch_size
    assert scores[0].accuracy == expected.accuracy
    assert scores[0].loss == pytest.approx(expected.loss, rel=1e-5)


def small_network() -> LeNet5:
    network = build_network(SMALL, 0)
    assert isinstance(network, LeNet5)
    return network


def test_others_that_cannot_be_reached_are_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in zip(TORCHRUN, ("0", "2", "127.0.0.1", "none"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="can't be reached"), joined(torch.device("cpu")):
        pass


def meet(store: Store, ranks: Sequence[int], world_size: int) -> dict[int, Store]:
    """Agree on a store in a thread a process; the first of the ranks comes first."""
    found: dict[int, Store] = {}

    def join(rank: int) -> None:
        found[rank] = agreed_store(store, rank, world_size)

    threads = [threading.Thread(target=join, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(20)
    return found


@pytest.mark.parametrize("ranks", [(0, 1, 2), (2, 1, 0)])
def test_processes_that_are_started_anew_find_nothing_of_those_before(
    ranks: tuple[int, ...],
) -> None:
    store = HashStore()
    # One that asked and was killed before there was an answer.
    store.set("lenet/asks/1", "gone")
    before = meet(store, ranks, 3)
    for rank in range(3):
        before[rank].set(f"address of {rank}", "old")
    after = meet(store, ranks, 3)
    for rank in range(3):
        assert not any(after[rank].check([f"address of {other}"]) for other in range(3))
    after[1].set("address of 1", "new")
    assert after[0].get("address of 1") == after[2].get("address of 1") == b"new"
    # One host less than before.
    fewer = meet(store, (0, 1), 2)
    fewer[0].set("x", "y")
    assert fewer[1].get("x") == b"y"


def test_what_learns_one_image_at_a_time_cannot_be_shared() -> None:
    recipe = RECIPES["lecun1998"]
    learner = make_learner(recipe, build_network(recipe, 0))
    with pytest.raises(RecipeError, match="nothing to share among 2 processes"):
        SharedLearner(learner, Group(0, 2))


def test_a_command_that_torchrun_starts_anew_goes_on(
    tmp_path: Path, tiny_mnist: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    options = TrainOptions(settings=SMALL, out=path)
    run = create_run(path, "default", SMALL, 0)
    with pytest.raises(RunError, match="found a run"):
        find_run(options, "default", [])
    assert find_shared_run(options, "default", []) == run
    with pytest.raises(RunError, match="found a run"):
        find_shared_run(replace(options, settings=replace(SMALL, lr=1.0)), "default", [])
    train(run)
    with pytest.raises(RunError, match="found a run"):
        find_shared_run(options, "default", [])
    # Another process than the first may be lost when the record is there already.
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert find_shared_run(options, "default", []) == run


DIES_AFTER_AN_EPOCH = """
import os, signal, threading, time
if os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
    def die():
        while not os.path.exists({path!r}):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=die, daemon=True).start()
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "LENET_TEST_TORCHRUN" not in os.environ,
    reason="minutes, and on Linux; LENET_TEST_TORCHRUN=1 runs it",
)
def test_two_processes_of_which_one_is_killed_end_as_one_does(
    tmp_path: Path, everywhere: dict[str, str]
) -> None:
    recipe = replace(SMALL, epochs=60, num_val=20)
    out = tmp_path / "shared"
    # From inside, as on a busy machine all 60 epochs may pass while another process looks.
    with (tmp_path / "site" / "sitecustomize.py").open("a") as site:
        site.write(DIES_AFTER_AN_EPOCH.format(path=str(out / "metrics.jsonl")))
    child = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--max-restarts", "2", "-m", "lenet", "train", "--epochs", "60", "--quiet"),
            *("--batch-size", "16", "--num-val", "20", "--out", str(out)),
        ],
        env=everywhere,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = child.stdout
    assert child.returncode == 0, output
    assert output.count("test accuracy") == 1  # one of them speaks
    assert "Traceback" not in output
    record = read(out / "record.json", RunRecord)
    assert record.num_sessions == 2
    assert record.device == "cpu, 2 processes"
    alone = train(create_run(tmp_path / "alone", "default", recipe, 0))
    assert record.test_accuracy == alone.test_accuracy
    weights = [load_file(path / "model.safetensors") for path in (out, tmp_path / "alone")]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(record.epochs, alone.epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
        assert ours.lr == theirs.lr
