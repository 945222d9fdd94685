from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lenet.models import LeNet5, network_class
from lenet.models.lenet5_1998 import LeNet5_1998


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_each_layer_has_its_parameters() -> None:
    model = LeNet5()
    layers = [*model.feature_extractor, *model.classifier]
    assert [count(layer) for layer in layers if count(layer)] == [156, 2416, 48120, 10164, 850]
    assert count(model) == 61_706


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_logits_equal_those_of_plain_torch_layers(activation: str, pooling: str) -> None:
    torch.manual_seed(0)
    model = LeNet5(7, in_channels=2, activation=activation, pooling=pooling)
    squash = {"tanh": torch.tanh, "relu": torch.relu, "silu": nn.functional.silu}[activation]
    pool = {"average": nn.AvgPool2d(2), "max": nn.MaxPool2d(2)}[pooling]
    c1, _, _, c3, _, _, c5, _ = model.feature_extractor
    f6, _, output = model.classifier
    x = torch.rand(3, 2, 28, 28)
    field = torch.zeros(3, 2, 32, 32)
    field[:, :, 2:30, 2:30] = x
    expected = output(squash(f6(squash(c5(pool(squash(c3(pool(squash(c1(field)))))))).flatten(1))))
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_initial_weights_are_those_of_the_notebooks_layers() -> None:
    torch.manual_seed(42)
    layers = [nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)]
    layers += [nn.Linear(120, 84), nn.Linear(84, 10)]  # type: ignore[list-item]  # mixed kinds
    expected = [p for layer in layers for p in layer.parameters()]
    torch.manual_seed(42)
    for ours, theirs in zip(LeNet5(10).parameters(), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_pixels_are_scaled_and_padded_with_background() -> None:
    model = LeNet5(background=-0.1, ink=1.175)
    field = model.prepare(torch.ones(1, 1, 28, 28))
    assert field.shape == (1, 1, 32, 32)
    assert field[0, 0, 16, 16] == pytest.approx(1.175)
    assert field[0, 0, 1, 1] == pytest.approx(-0.1)


def test_stretching_agrees_with_pillow_to_its_rounding() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    pillow = np.array(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    x = torch.from_numpy(pixels).float().view(1, 1, 28, 28) / 255
    field = LeNet5(resize="stretch").prepare(x)[0, 0]
    # Pillow rounds to whole grey levels after each of its two passes.
    assert float((field * 255 - torch.from_numpy(pillow)).abs().max()) <= 1.01


def test_a_field_of_32_pixels_is_taken_as_it_is() -> None:
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(LeNet5().prepare(x), x)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (1, 3, 28, 28), (1, 1, 27, 28)])
def test_other_shapes_are_refused_with_what_was_expected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 1, 28, 28\)"):
        LeNet5()(torch.zeros(shape))


@pytest.mark.parametrize("kind", [LeNet5, LeNet5_1998])
@pytest.mark.parametrize(
    "change", [lambda x: 255 * x, lambda x: (x - 0.1307) / 0.3081, lambda x: x * torch.nan]
)
def test_wrongly_scaled_pixels_are_refused_in_evaluation(
    kind: type[nn.Module], change: Callable[[Tensor], Tensor]
) -> None:
    x = torch.rand(3, 1, 28, 28)
    model = kind().eval()
    assert model(x).shape == (3, 10)
    assert model(x[:0]).shape == (0, 10)
    with pytest.raises(ValueError, match=r"expected pixels in \[0, 1\]"):
        model(change(x))


@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": "gelu"},
        {"pooling": "sum"},
        {"resize": "crop"},
        {"num_classes": 1},
        {"in_channels": 0},
        {"ink": float("nan")},
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        LeNet5(**arguments)  # type: ignore[arg-type]  # that is the point


def test_config_builds_the_same_network() -> None:
    model = LeNet5(5, activation="relu", pooling="max", resize="stretch", ink=2.5)
    again = network_class("lenet5")(**model.config())
    assert again.config() == model.config()
    assert str(again) == str(model)
