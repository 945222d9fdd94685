import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lenet.data.digits import to_input
from lenet.errors import LeNetError
from lenet.models import LeNet5, build_network
from lenet.native.build import FLAGS, NativeUnavailableError, build
from lenet.native.engine import NativeEngine
from lenet.training.learners import TorchLearner, make_learner
from lenet.training.loop import train
from lenet.training.recipe import RECIPES
from lenet.training.run import create_run

VARIANTS = [(a, p) for a in ("tanh", "relu", "silu") for p in ("average", "max")]


@pytest.fixture(autouse=True)
def compiled(shared_kernels: None) -> None:
    if sys.platform == "win32" or not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("no C++ compiler here")


def compare(
    model: LeNet5,
    x: Tensor,
    labels: Tensor,
    *,
    smoothing: float = 0.0,
    threads: int = 1,
) -> None:
    """Compare loss, logits and gradients with autograd in float64, to 1e-4 of the largest."""
    reference = LeNet5(**model.config()).double()  # type: ignore[arg-type]  # plain values
    reference.load_state_dict(model.state_dict())
    expected = reference(x.double())
    loss = nn.functional.cross_entropy(expected, labels, label_smoothing=smoothing)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    engine = NativeEngine(model, label_smoothing=smoothing, num_threads=threads)
    logits = torch.empty(len(x), model.num_classes)
    found = engine.loss_and_gradients(x, labels, logits=logits)
    assert found.minimized == pytest.approx(float(loss.detach()), rel=1e-4, abs=1e-6)
    plain = nn.functional.cross_entropy(expected.detach(), labels)
    assert found.loss == pytest.approx(float(plain), rel=1e-4, abs=1e-6)
    assert found.num_correct == int((logits.argmax(1) == labels).sum())
    scale = float(expected.detach().abs().max()) + 1e-6
    assert float((logits - expected).detach().abs().max()) <= 1e-4 * scale
    inferred = engine.logits(x)
    # A few images are taken one by one, with other roundings.
    assert torch.equal(inferred, logits) or len(x) <= 4
    assert float((inferred - expected).detach().abs().max()) <= 1e-4 * scale
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        largest = float(theirs.grad.abs().max())
        assert float((ours.grad - theirs.grad).abs().max()) <= 1e-4 * largest + 1e-7


@pytest.mark.parametrize(("activation", "pooling"), VARIANTS)
@pytest.mark.parametrize("batch_size", [1, 2, 7, 8, 9, 31, 32, 65])
def test_gradients_equal_autograds(activation: str, pooling: str, batch_size: int) -> None:
    torch.manual_seed(batch_size)
    model = LeNet5(activation=activation, pooling=pooling, background=-0.1, ink=1.175)
    compare(model, torch.rand(batch_size, 1, 28, 28), torch.randint(0, 10, (batch_size,)))


def test_a_large_batch_threads_and_smoothing() -> None:
    torch.manual_seed(0)
    x, labels = torch.rand(300, 1, 28, 28), torch.randint(0, 10, (300,))
    compare(LeNet5(), x, labels, smoothing=0.1, threads=2)


@pytest.mark.parametrize("num_classes", [2, 10, 47])
def test_any_number_of_classes(num_classes: int) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, num_classes, (9,))
    compare(LeNet5(num_classes, resize="stretch"), torch.rand(9, 1, 28, 28), labels)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize(("activation", "pooling"), VARIANTS)
def test_images_of_one_value(activation: str, pooling: str, value: float) -> None:
    torch.manual_seed(1)
    model = LeNet5(activation=activation, pooling=pooling)
    engine = NativeEngine(model)
    x = torch.full((3, 1, 28, 28), value)
    with torch.no_grad():
        torch.testing.assert_close(engine.logits(x), model(x), rtol=1e-4, atol=1e-5)


def test_large_weights_saturate_and_stay_finite() -> None:
    torch.manual_seed(2)
    model = LeNet5()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(100)
    x, labels = torch.rand(16, 1, 28, 28), torch.randint(0, 10, (16,))
    engine = NativeEngine(model)
    logits = torch.empty(16, 10)
    loss = engine.loss_and_gradients(x, labels, logits=logits).loss
    with torch.no_grad():
        torch.testing.assert_close(logits, model(x), rtol=1e-3, atol=1e-2)
    assert loss > 0
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(3)
    model = LeNet5()
    x, labels = torch.rand(4, 1, 28, 28), torch.tensor([1, 2, 3, 4])
    engine = NativeEngine(model)
    engine.loss_and_gradients(x, labels)
    generator = torch.Generator().manual_seed(0)
    for parameter in list(model.parameters()):
        assert parameter.grad is not None
        gradient = parameter.grad.clone()
        direction = torch.randn(parameter.shape, generator=generator)
        direction /= direction.norm()
        step, losses = 1e-2, []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
            losses.append(engine.loss_and_gradients(x, labels).loss)
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * step)
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=0.02, abs=1e-4)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(4)
    x, labels = torch.rand(70, 1, 28, 28), torch.randint(0, 10, (70,))
    results = []
    for num_threads in (1, 2, 3, 8):
        torch.manual_seed(5)
        model = LeNet5()
        engine = NativeEngine(model, num_threads=num_threads)
        logits = torch.empty(70, 10)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(3):
            engine.learn(x, labels, optimizer)
        loss = engine.loss_and_gradients(x, labels, logits=logits).loss
        gradients = [p.grad for p in model.parameters()]
        results.append([torch.tensor(loss), logits, *gradients, *model.parameters()])
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert a is not None
            assert b is not None
            assert torch.equal(a, b)


@pytest.mark.parametrize("resize", ["pad", "stretch"])
@pytest.mark.parametrize("batch_size", [1, 9])
def test_pixels_are_prepared_as_the_model_does(resize: str, batch_size: int) -> None:
    model = LeNet5(resize=resize, background=-0.4242, ink=2.8215)
    engine = NativeEngine(model)
    images = torch.randint(0, 256, (batch_size, 28, 28), dtype=torch.uint8)
    x = to_input(images)
    # To the last bit: all are the same numbers once they reach C1. The twin scales nothing.
    twin = LeNet5()
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    expected = NativeEngine(twin).logits(model.prepare(x))
    assert torch.equal(engine.logits(images), expected)
    assert torch.equal(engine.logits(x), expected)
    assert torch.equal(engine.logits(x.transpose(0, 1).contiguous().transpose(0, 1)), expected)
    labels = torch.zeros(batch_size, dtype=torch.int64)
    losses = {engine.loss_and_gradients(batch, labels).loss for batch in (images, x)}
    assert len(losses) == 1


def test_wrong_shapes_are_refused() -> None:
    engine = NativeEngine(LeNet5())
    for x in (
        torch.zeros(1, 1, 27, 28),
        torch.zeros(2, 28, 28),
        torch.zeros(1, 1, 28, 28, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match="expected"):
            engine.logits(x)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_adam_equals_torchs_and_continues_its_state(
    kind: type[torch.optim.Adam], num_threads: int
) -> None:
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (9, 28, 28), dtype=torch.uint8), torch.arange(9)
    results = []
    for ours in ((True, True), (False, False), (True, False), (False, True)):
        torch.manual_seed(1)
        model = LeNet5(resize="stretch")
        engine = NativeEngine(model, label_smoothing=0.1, num_threads=num_threads)
        # The large eps keeps rounding from being amplified where a gradient is nearly 0.
        settings = {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-3}
        optimizer = kind(model.parameters(), **settings, fused=True)  # type: ignore[arg-type]
        for step in range(6):
            if step == 3:
                state = optimizer.state_dict()
                optimizer = kind(model.parameters(), **settings, fused=True)  # type: ignore[arg-type]
                optimizer.load_state_dict(state)
            optimizer.param_groups[0]["lr"] = 0.01 / (step + 1)
            if ours[step // 3]:
                engine.learn(images, labels, optimizer)
            else:
                engine.loss_and_gradients(images, labels)
                optimizer.step()
        results.append([p.detach() for p in model.parameters()])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)


def test_a_step_that_fails_learns_nothing() -> None:
    model = LeNet5()
    engine = NativeEngine(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x = torch.zeros(1, 1, 28, 28)
    for _ in range(2):  # the first makes the gradients, the second has them
        engine.learn(x, torch.tensor([3]), optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=r"label is outside 0\.\.9"):
        engine.learn(x, torch.tensor([10]), optimizer)
    assert all(map(torch.equal, before, model.parameters()))
    assert optimizer.state_dict()["state"][0]["step"] == 2


def test_an_optimizer_of_other_parameters_is_refused() -> None:
    model, other = LeNet5(), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([*model.parameters(), other], lr=0.1)
    with pytest.raises(ValueError, match="not of this model"):
        NativeEngine(model).learn(torch.zeros(1, 1, 28, 28), torch.tensor([3]), optimizer)


def test_wrong_labels_are_an_error_not_a_crash() -> None:
    engine = NativeEngine(LeNet5())
    for label in (-1, 10, 2**40):
        with pytest.raises(ValueError, match=r"label is outside 0\.\.9"):
            engine.loss_and_gradients(torch.zeros(1, 1, 28, 28), torch.tensor([label]))
    assert engine.logits(torch.zeros(0, 1, 28, 28)).shape == (0, 10)


def test_models_that_the_kernels_are_not_for_are_refused() -> None:
    with pytest.raises(NativeUnavailableError, match="1 channel"):
        NativeEngine(LeNet5(in_channels=3))
    with pytest.raises(NativeUnavailableError, match="at most 64 classes"):
        NativeEngine(LeNet5(100))
    with pytest.raises(NativeUnavailableError, match="float32"):
        NativeEngine(LeNet5().double())


def test_without_a_compiler_torch_takes_over_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    recipe = RECIPES["default"]
    assert type(make_learner(recipe, build_network(recipe, 0))) is TorchLearner
    assert len(caplog.records) == 1
    assert "no C++ compiler found; `apt install g++`" in caplog.text
    with pytest.raises(LeNetError, match="can't be had: no C"):
        make_learner(recipe, build_network(recipe, 0), engine="native")
    caplog.clear()
    assert type(make_learner(recipe, build_network(recipe, 0), engine="torch")) is TorchLearner
    assert not caplog.records


def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(NativeUnavailableError, match="`false` failed"):
        build()


def test_the_kernels_are_compiled_once(kernels: Path) -> None:
    path = build()
    before = path.stat().st_mtime_ns
    assert build() == path
    assert path.stat().st_mtime_ns == before
    assert [p for p in kernels.iterdir() if p.name.startswith(".build")] == []


def test_both_engines_walk_the_same_way(tiny_mnist: None, tmp_path: Path) -> None:
    recipe = replace(RECIPES["default"], num_val=0, epochs=3, batch_size=16, lr=1e-3)
    losses = []
    for engine in ("native", "torch"):
        run = create_run(tmp_path / engine, "default", recipe, 0)
        record = train(run, engine=engine)
        assert record.engine == engine
        losses.append([epoch.train_loss for epoch in record.epochs])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


SANITIZERS = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.real
@pytest.mark.parametrize("options", [SANITIZERS, ("-O1",), ("-O2",)])
def test_kernels_equal_a_naive_network(options: tuple[str, ...], tmp_path: Path) -> None:
    """By kernels_test.cpp, under other options than those that users get."""
    program = tmp_path / "kernels_test"
    flags = [f for f in FLAGS if f not in ("-shared", "-fPIC", "-O3")]
    include = f"-I{Path(build.__code__.co_filename).parent}"
    source = Path(__file__).parent / "kernels_test.cpp"
    subprocess.run(
        ["g++", *options, "-Wall", "-Wextra", "-Werror", *flags, include, str(source)]  # noqa: RUF005
        + ["-o", str(program)],
        check=True,
    )
    found = subprocess.run([str(program)], capture_output=True, text=True)
    assert found.stdout == "clean\n", found.stdout + found.stderr
    assert found.returncode == 0
