from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

from lenet.models.files import load_model, save_model
from lenet.models.lenet5_1998 import (
    DIGIT_CODES,
    RBF,
    LeNet5_1998,
    Subsampling,
    squash,
    squash_slope,
)
from lenet.schema import ModelCard

# LeCun et al. 1998, section II.B: trainable parameters, connections and shape of each layer.
PAPER = {
    "c1": (156, 122_304, (6, 28, 28)),
    "s2": (12, 5_880, (6, 14, 14)),
    "c3": (1_516, 151_600, (16, 10, 10)),
    "s4": (32, 2_000, (16, 5, 5)),
    "c5": (48_120, 48_120, (120, 1, 1)),
    "f6": (10_164, 10_164, (84,)),
    "output": (0, 840, (10,)),
}


def count_links(layer: nn.Module, x: Tensor) -> int:
    """Which unit depends on which input, by autograd, and a bias for each unit that has one."""
    jacobian = jacrev(lambda x: layer(x).flatten())(x)
    links = int((jacobian != 0).sum())
    has_bias = any(name == "bias" for name, _ in layer.named_parameters())
    return links + (layer(x).numel() if has_bias else 0)


def test_layers_have_the_papers_parameters_connections_and_shapes() -> None:
    torch.manual_seed(0)
    model = LeNet5_1998()
    x = model.prepare(torch.rand(1, 1, 28, 28))
    found = {}
    for name, layer in model.named_children():
        if name == "f6":
            x = x.flatten(1)
        links = count_links(layer, x)
        x = layer(x).detach()
        found[name] = sum(p.numel() for p in layer.parameters()), links, tuple(x.shape[1:])
    assert found == PAPER
    assert sum(p.numel() for p in model.parameters()) == 60_000
    assert sum(links for _, links, _ in found.values()) == 340_908


def test_a_map_of_c3_sees_the_maps_of_table_1() -> None:
    rows = [
        "012", "123", "234", "345", "045", "015", "0123", "1234",
        "2345", "0345", "0145", "0125", "0134", "1245", "0235", "012345",
    ]  # fmt: skip
    torch.manual_seed(0)
    model, x = LeNet5_1998(), torch.rand(1, 6, 14, 14)
    before, seen = model.c3(x), ["" for _ in rows]
    for c in range(6):
        changed = x.clone()
        changed[0, c] += 1
        for o in (model.c3(changed) != before).flatten(2).any(2)[0].nonzero().flatten().tolist():
            seen[o] += str(c)
    assert seen == rows
    assert sum(map(len, rows)) == 60


def test_weighted_sums_are_the_papers() -> None:
    """S2 adds up four inputs; C3 is a sum of plain convolutions, kernel by kernel."""
    torch.manual_seed(1)
    model = LeNet5_1998().double().requires_grad_(False)
    assert isinstance(model.s2, Subsampling)
    x = torch.rand(1, 6, 28, 28, dtype=torch.float64)
    sums = x[0, 2, 6:8, 10:12].sum() * model.s2.coefficient[2] + model.s2.bias[2]
    assert float(model.s2(x)[0, 2, 3, 5]) == pytest.approx(float(sums))
    x = torch.rand(1, 6, 14, 14, dtype=torch.float64)
    first = sum(len(row) for row in ("012", "123", "234", "345"))  # of map 4, over 0, 4, 5
    expected = model.c3.bias[4] + sum(
        (x[0, c, 2:7, 3:8] * model.c3.weight[first + k]).sum() for k, c in enumerate((0, 4, 5))
    )
    assert float(model.c3(x)[0, 4, 2, 3]) == pytest.approx(float(expected))


def test_squashing_is_one_at_one_and_curves_most_there() -> None:
    a = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    assert float(squash(torch.tensor(1.0))) == pytest.approx(1, abs=1e-4)
    assert float(squash(torch.tensor(-1.0))) == pytest.approx(-1, abs=1e-4)
    slope = torch.gradient(squash(a), spacing=0.001)[0]
    torch.testing.assert_close(squash_slope(a)[1:-1], slope[1:-1], rtol=0, atol=1e-6)
    curve = torch.gradient(squash_slope(a), spacing=0.001)[0].abs()
    assert abs(float(a[curve.argmax()])) == pytest.approx(1, abs=0.02)


def test_codes_are_drawings_of_the_digits() -> None:
    assert [len(code) for code in DIGIT_CODES] == [84] * 10
    drawing = "".join("#" if cell > 0 else "." for cell in DIGIT_CODES[7])
    assert [drawing[i : i + 7] for i in range(0, 84, 7)] == [
        "#######", ".....##", ".....##", "....##.", "...##..", "...##..",
        "..##...", "..##...", "..##...", "..##...", ".......", ".......",
    ]  # fmt: skip


def test_distances_between_the_codes_of_digits() -> None:
    penalties = RBF()(torch.tensor(DIGIT_CODES, dtype=torch.float32))
    assert torch.equal(penalties.diagonal(), torch.zeros(10))
    off = penalties + 1000 * torch.eye(10)
    assert float(off.min()) == 48 == float(penalties[6, 8])
    assert float(penalties.max()) == 200 == float(penalties[1, 8]) == float(penalties[4, 7])


def test_logits_are_negated_penalties() -> None:
    torch.manual_seed(2)
    model, x = LeNet5_1998().double(), torch.rand(2, 1, 28, 28).double()
    state = model.prepare(x)
    for layer, squashed in model.layers():
        state = squash(layer(state)) if squashed else layer(state)
    expected = [
        [-sum((s - c) ** 2 for s, c in zip(row, codes, strict=True)) for codes in DIGIT_CODES]
        for row in state.tolist()
    ]
    torch.testing.assert_close(model(x), torch.tensor(expected, dtype=torch.float64))


def test_pixels_become_the_papers_field() -> None:
    field = LeNet5_1998().prepare(torch.ones(1, 1, 28, 28))
    assert field.shape == (1, 1, 32, 32)
    assert float(field[0, 0, 0, 0]) == pytest.approx(-0.1)
    assert float(field[0, 0, 2, 2]) == float(field[0, 0, 29, 29]) == pytest.approx(1.175)
    with pytest.raises(ValueError, match="expected"):
        LeNet5_1998().prepare(torch.zeros(1, 3, 28, 28))


@pytest.mark.parametrize(("init", "power", "factor"), [("linear", 1, 2.4), ("sqrt", 0.5, 1.2)])
def test_initial_weights_fill_their_range(init: str, power: float, factor: float) -> None:
    torch.manual_seed(3)
    model = LeNet5_1998(init=init)
    for weight, fan_in in ((model.c5.weight, 400), (model.f6.weight, 120), (model.c1.weight, 25)):
        limit = factor / fan_in**power
        assert 0.9 * limit < float(weight.detach().abs().max()) <= limit
    kernels = model.c3.weight.detach()
    assert float(kernels[:3].abs().max()) <= factor / 75**power
    assert float(kernels[-6:].abs().max()) <= factor / 150**power < float(kernels[:3].abs().max())


@pytest.mark.parametrize(
    ("changes", "num_parameters"),
    [
        ({"connections": "dense"}, 60_900),
        ({"pooling": "average"}, 59_956),
        ({"output": "linear"}, 60_850),
        ({"connections": "dense", "pooling": "average", "output": "linear"}, 61_706),
    ],
)
def test_variants_come_back_from_their_file(
    changes: dict[str, str], num_parameters: int, tmp_path: Path
) -> None:
    """With all three, the network has the 61,706 parameters of the common LeNet-5."""
    model = LeNet5_1998(**changes)  # type: ignore[arg-type]  # all are strings
    assert sum(p.numel() for p in model.parameters()) == num_parameters
    card = ModelCard(
        model="lenet5-1998", config=model.config(), classes=tuple("0123456789"), dataset="mnist"
    )
    save_model(tmp_path / "m.safetensors", model, card)
    loaded, _ = load_model(tmp_path / "m.safetensors")
    x = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


def test_names_that_do_not_exist_are_refused() -> None:
    for argument in ("connections", "pooling", "output", "init"):
        with pytest.raises(ValueError, match=rf"`{argument}` \(='x'\) must be one of"):
            LeNet5_1998(**{argument: "x"})  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="num_classes"):
        LeNet5_1998(11)
    with pytest.raises(ValueError, match="finite"):
        LeNet5_1998(ink=float("nan"))
