import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lenet.data.digits import to_input
from lenet.errors import LeNetError
from lenet.models import build_network
from lenet.models.lenet5_1998 import LeNet5_1998
from lenet.native.build import FLAGS, NativeUnavailableError, build
from lenet.native.engine import BatchScores
from lenet.native.engine_1998 import NativeEngine1998
from lenet.training.curvature import estimate_curvature
from lenet.training.learners import TorchLearner, make_learner
from lenet.training.loop import train
from lenet.training.recipe import RECIPES, Recipe
from lenet.training.run import create_run, open_run
from lenet.training.sdlm import MAP, MSE, PATTERNS_PER_CALL, PatternLearner, StochasticDiagonalLM

VARIANTS = [
    (connections, pooling, output)
    for connections in ("table", "dense")
    for pooling in ("trainable", "average")
    for output in ("rbf", "linear")
]
SMALL = replace(RECIPES["lecun1998"], epochs=3)


@pytest.fixture(autouse=True)
def compiled(shared_kernels: None) -> None:
    if sys.platform == "win32" or not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler here")


def build_pair(scale: float = 1.0, **variant: str) -> tuple[LeNet5_1998, LeNet5_1998]:
    """The same weights in float32 and float64."""
    model = LeNet5_1998(**variant)  # type: ignore[arg-type]  # all are strings
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    reference = LeNet5_1998(**variant).double()  # type: ignore[arg-type]  # likewise
    reference.load_state_dict(model.state_dict())
    return model, reference


def loss_of(garbage: float | None) -> nn.Module:
    return MSE() if garbage is None else MAP(garbage)


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
@pytest.mark.parametrize("garbage", [None, 3.0, math.inf])
def test_gradients_are_autograds(variant: tuple[str, str, str], garbage: float | None) -> None:
    """In float64, to 2e-5 of the largest gradient."""
    torch.manual_seed(0)
    names = dict(zip(("connections", "pooling", "output"), variant, strict=True))
    for scale, batch_size in ((0.3, 1), (1.0, 7), (3.0, 2)):
        model, reference = build_pair(scale, **names)
        x, labels = torch.rand(batch_size, 1, 28, 28), torch.randint(0, 10, (batch_size,))
        expected = reference(x.double())
        loss = loss_of(garbage)(expected, labels)
        loss.backward()
        engine = NativeEngine1998(model, garbage=garbage)
        logits = torch.empty(batch_size, 10)
        found = engine.loss_and_gradients(x, labels, logits=logits)
        scale_of = float(expected.detach().abs().max())
        assert found.minimized == pytest.approx(float(loss.detach()), rel=1e-5, abs=1e-5 * scale_of)
        assert float((logits - expected).detach().abs().max()) <= 1e-5 * scale_of + 1e-6
        assert torch.equal(engine.logits(x), logits)
        assert found.num_correct == int((logits.argmax(1) == labels).sum())
        assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)))
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            assert ours.grad is not None
            assert theirs.grad is not None
            largest = float(theirs.grad.abs().max())
            torch.testing.assert_close(
                ours.grad.double(), theirs.grad, rtol=0, atol=2e-5 * largest + 1e-9
            )


def test_pixels_that_saturate_every_unit_leave_finite_gradients() -> None:
    torch.manual_seed(1)
    model, _ = build_pair(100.0)
    x, labels = torch.rand(16, 1, 28, 28), torch.randint(0, 10, (16,))
    engine = NativeEngine1998(model, garbage=5.0)
    assert math.isfinite(engine.loss_and_gradients(x, labels).minimized)
    logits = engine.logits(x)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(x), rtol=1e-3, atol=1e-2)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("garbage", [None, 4.0])
def test_learning_is_gradient_and_update_pattern_by_pattern(garbage: float | None) -> None:
    torch.manual_seed(2)
    model, reference = build_pair()
    x, labels = torch.rand(40, 1, 28, 28), torch.randint(0, 10, (40,))
    h_kk = estimate_curvature(reference, x.double(), garbage=garbage)
    # Small rates: on noise with random labels, the paper's amplify every rounding.
    slow = StochasticDiagonalLM(reference.parameters(), lr=0.00002)
    slow.set_curvature(h_kk)
    rates = [rate.float() for rate in slow.rates()]
    engine = NativeEngine1998(model, garbage=garbage)
    logits = torch.empty(40, 10)
    found = engine.learn(x, labels, rates, logits=logits)
    expected = []
    for pattern, label in zip(x.double(), labels, strict=True):
        slow.zero_grad()
        output = reference(pattern[None])
        loss_of(garbage)(output, label[None]).backward()
        slow.step()
        expected.append(output.detach()[0])
    torch.testing.assert_close(logits.double(), torch.stack(expected), rtol=1e-4, atol=1e-4)
    loss = float(loss_of(garbage)(torch.stack(expected), labels))
    assert found.minimized == pytest.approx(loss, rel=1e-4)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.detach().double(), theirs.detach(), rtol=1e-4, atol=2e-6)


def test_two_networks_in_turns_learn_what_each_learns_alone() -> None:
    """The kernels keep a workspace between calls; nothing of it may leak from one to the other."""

    def learn(seeds: tuple[int, ...]) -> list[list[Tensor]]:
        models, engines, rates = [], [], []
        for seed in seeds:
            torch.manual_seed(seed)
            variant = {"connections": "dense"} if seed else {}
            models.append(LeNet5_1998(**variant))  # type: ignore[arg-type]  # a string
            engines.append(NativeEngine1998(models[-1], garbage=5.0))
            rates.append([torch.full_like(p, 0.002) for p in models[-1].parameters()])
        x = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(3))
        labels = torch.arange(30) % 10
        for start in range(0, 30, 10):
            for engine, eps in zip(engines, rates, strict=True):
                engine.learn(x[start : start + 10], labels[start : start + 10], eps)
        return [[p.detach() for p in model.parameters()] for model in models]

    together, alone = learn((0, 1)), [*learn((0,)), *learn((1,))]
    for ours, theirs in zip(together, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_number_of_patterns_a_call_changes_nothing() -> None:
    x, labels = torch.rand(23, 1, 28, 28), torch.arange(23) % 10
    found = []
    for size in (1, 5, 23):
        torch.manual_seed(4)
        model = LeNet5_1998()
        engine = NativeEngine1998(model, garbage=5.0)
        rates = [torch.full_like(p, 0.002) for p in model.parameters()]
        logits = torch.empty(23, 10)
        for i in range(0, 23, size):
            part = slice(i, i + size)
            engine.learn(x[part], labels[part], rates, logits=logits[part])
        found.append([logits, *[p.detach() for p in model.parameters()]])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_bytes_are_the_same_pixels() -> None:
    images = torch.randint(0, 256, (9, 28, 28), dtype=torch.uint8)
    engine = NativeEngine1998(LeNet5_1998())
    assert torch.equal(engine.logits(images), engine.logits(to_input(images)))


def test_wrong_input_is_an_error_not_a_crash() -> None:
    engine = NativeEngine1998(LeNet5_1998())
    for label in (-1, 10, 2**40):
        with pytest.raises(ValueError, match=r"label outside 0\.\.9"):
            engine.loss_and_gradients(torch.zeros(1, 1, 28, 28), torch.tensor([label]))
    with pytest.raises(ValueError, match="no patterns"):
        engine.loss_and_gradients(torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected"):
        engine.logits(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="expected"):
        engine.logits(torch.zeros(1, 1, 28, 28, dtype=torch.uint8).expand(1, 2, 28, 28))
    assert engine.logits(torch.zeros(0, 1, 28, 28)).shape == (0, 10)
    with pytest.raises(NativeUnavailableError, match="float32"):
        NativeEngine1998(LeNet5_1998().double())


def test_without_a_compiler_torch_takes_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    recipe = RECIPES["lecun1998"]
    learner = make_learner(recipe, build_network(recipe, 0))
    assert type(learner) is PatternLearner
    assert learner.batch_size == 1
    assert "no C++ compiler found" in caplog.text


def test_label_smoothing_is_left_to_torch(caplog: pytest.LogCaptureFixture) -> None:
    recipe = replace(
        RECIPES["lecun1998"], output="linear", loss="cross_entropy", label_smoothing=0.1,
        optimizer="adam", schedule="linear",
    )  # fmt: skip
    assert type(make_learner(recipe, build_network(recipe, 0))) is TorchLearner
    assert "no label smoothing" in caplog.text
    with pytest.raises(LeNetError, match="no label smoothing"):
        make_learner(recipe, build_network(recipe, 0), engine="native")


def test_the_kernels_get_many_patterns_a_call() -> None:
    recipe = RECIPES["lecun1998"]
    learner = make_learner(recipe, build_network(recipe, 0), engine="native")
    assert learner.batch_size == PATTERNS_PER_CALL


@pytest.fixture
def make(tiny_mnist: None, tmp_path: Path) -> Callable[..., Path]:
    """Train a small recipe to its end; return the run directory."""

    def run(name: str, recipe: Recipe = SMALL, engine: str = "native") -> Path:
        train(create_run(tmp_path / name, "lecun1998", recipe, 0), engine=engine)
        return tmp_path / name

    return run


@pytest.mark.parametrize("name", ["lecun1998", "lecun1998-distorted"])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(
    name: str, make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPES[name], epochs=3)
    expected = (make("whole", recipe) / "model.safetensors").read_bytes()
    run = create_run(tmp_path / "stopped", "lecun1998", recipe, 0)
    learn, calls = NativeEngine1998.learn, 0

    def stop(self: NativeEngine1998, *arguments: object) -> BatchScores:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return learn(self, *arguments)  # type: ignore[arg-type]  # what it was called with

    with monkeypatch.context() as patch:
        patch.setattr(NativeEngine1998, "learn", stop)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    record = train(open_run(run.path))
    assert record.num_sessions == 2
    assert (run.path / "model.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1e-5, "loss": "map", "map_j": 5.0},
        {"lr": 1e-5},
        {"optimizer": "adam", "schedule": "linear", "lr": 1e-3, "batch_size": 16},
    ],
    ids=["map", "mse", "adam"],
)
def test_both_engines_walk_the_same_way(
    changes: dict[str, object], make: Callable[..., Path]
) -> None:
    # A small eta, as above.
    recipe = replace(SMALL, **changes)  # type: ignore[arg-type]  # fields of a recipe
    losses = []
    for engine in ("native", "torch"):
        lines = (make(engine, recipe, engine) / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["train_loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.real
def test_sanitizers_find_nothing_in_the_1998_network(tmp_path: Path) -> None:
    """Over lenet5_1998_test.cpp, which compares the kernels with a naive network in double."""
    program = tmp_path / "lenet5_1998_test"
    flags = [f for f in FLAGS if f not in ("-shared", "-fPIC", "-O3")]
    include = f"-I{Path(build.__code__.co_filename).parent}"
    source = Path(__file__).parent / "lenet5_1998_test.cpp"
    subprocess.run(
        ["g++", "-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]  # noqa: RUF005
        + ["-Wall", "-Wextra", "-Werror", *flags, include, str(source), "-o", str(program)],
        check=True,
    )
    found = subprocess.run([str(program)], capture_output=True, text=True)
    assert found.stdout == "clean\n", found.stdout + found.stderr
    assert found.returncode == 0
