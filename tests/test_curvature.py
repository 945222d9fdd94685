from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import functional
from torch.func import functional_call, jacrev

from lenet.models.lenet5_1998 import (
    RBF,
    FullConnection,
    LeNet5_1998,
    MapConvolution,
    Subsampling,
    squash,
    squash_slope,
)
from lenet.training.curvature import estimate_curvature, output_curvature, recursion

Layers = list[tuple[nn.Module, bool]]


def hessian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    found: Tensor = functional.hessian(function, x)  # type: ignore[no-untyped-call]  # torch's
    return found


def doubled(module: nn.Module) -> nn.Module:
    """The module in float64, its parameters large enough that nothing is almost linear."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return module


def codes_of(rows: Tensor) -> RBF:
    rbf = RBF().double()
    rbf.codes = rows.double()
    return rbf


def tiny_network() -> tuple[Layers, RBF, Tensor]:
    """Every layer kind of the 1998 network in its order, C3's missing connections included."""
    torch.manual_seed(0)
    layers: Layers = [
        (doubled(MapConvolution([(0,), (0,)], 1, 3, init="sqrt")), True),  # (1, 2, 6, 6)
        (doubled(Subsampling(2, init="sqrt")), True),  # (1, 2, 3, 3)
        (doubled(MapConvolution([(0,), (0, 1), (1,)], 2, 2, init="sqrt")), True),  # (1, 3, 2, 2)
        (doubled(Subsampling(3, init="sqrt")), True),  # (1, 3, 1, 1)
        (doubled(MapConvolution([(0, 1, 2)] * 4, 3, 1, init="sqrt")), True),  # (1, 4, 1, 1)
        (nn.Flatten(), False),
        (doubled(FullConnection(4, 5, init="sqrt")), True),  # (1, 5)
    ]
    return layers, codes_of(torch.randn(3, 5).sign()), torch.randn(1, 1, 8, 8).double()


def forward(layers: Layers, x: Tensor) -> Tensor:
    for layer, squashed in layers:
        x = squash(layer(x)) if squashed else layer(x)
    return x


def criterion(state: Tensor, rbf: RBF, garbage: float | None, label: int = 1) -> Tensor:
    penalties: Tensor = rbf(state.unsqueeze(0))[0]
    if garbage is None:
        return penalties[label]
    others = torch.cat([-penalties, penalties.new_full((1,), -garbage)])
    return penalties[label] + others.logsumexp(0)


def gauss_newton(
    layers: Layers, x: Tensor, rbf: RBF | None, garbage: float | None
) -> dict[str, Tensor]:
    """The exact Gauss-Newton diagonal by autograd: J^T H J, H of the criterion at the last state.

    Without RBF units, H is that of the squared distance from any point.
    """
    state = forward(layers, x)[0].detach()
    h = 2 * torch.eye(len(state), dtype=state.dtype)
    if rbf is not None:
        h = hessian(lambda s: criterion(s, rbf, garbage), state)
    exact = {}
    for index, (layer, _) in enumerate(layers):
        for name, parameter in layer.named_parameters():

            def run(w: Tensor, index: int = index, name: str = name) -> Tensor:
                y = x
                for i, (layer, squashed) in enumerate(layers):
                    a = functional_call(layer, {name: w}, y) if i == index else layer(y)
                    y = squash(a) if squashed else a
                return y[0]

            jacobian = jacrev(run)(parameter.detach()).flatten(1)  # (state, weights)
            diagonal = torch.einsum("ak,ab,bk->k", jacobian, h, jacobian)
            exact[f"{index}.{name}"] = diagonal.view_as(parameter)
    return exact


@pytest.mark.parametrize("garbage", [None, 0.5, 5.0, float("inf")])
def test_the_criterions_curvature_is_autograds(garbage: float | None) -> None:
    torch.manual_seed(1)
    rbf = codes_of(torch.randn(3, 5).sign())
    for scale in (0.1, 1.0, 3.0):
        state = torch.randn(5, dtype=torch.float64) * scale
        for label in range(3):
            expected = hessian(partial(criterion, rbf=rbf, garbage=garbage, label=label), state)
            found = output_curvature(state.unsqueeze(0), rbf, garbage)[0]
            torch.testing.assert_close(found, expected.diagonal())


@pytest.mark.parametrize(("garbage", "exact_layers"), [(None, (4, 6)), (3.0, (6,))])
def test_the_last_layers_are_the_exact_gauss_newton_diagonal(
    garbage: float | None, exact_layers: Sequence[int]
) -> None:
    """F6 always; C5 where the criterion's own Hessian is diagonal, as the MSE's is."""
    layers, rbf, x = tiny_network()
    exact = gauss_newton(layers, x, rbf, garbage)
    found = recursion(layers, x, lambda s: output_curvature(s, rbf, garbage))
    assert found.keys() == exact.keys()
    for name, expected in exact.items():
        if int(name[0]) in exact_layers:
            torch.testing.assert_close(found[name], expected)


def test_where_no_products_are_dropped_shared_weights_are_exact() -> None:
    """Two convolutions whose positions never meet again."""
    torch.manual_seed(2)
    layers: Layers = [
        (doubled(MapConvolution([(0,)], 1, 1, init="sqrt")), True),
        (doubled(MapConvolution([(0,)], 1, 1, init="sqrt")), True),
        (nn.Flatten(), False),
    ]
    x = torch.randn(1, 1, 2, 3, dtype=torch.float64)
    exact = gauss_newton(layers, x, None, None)
    found = recursion(layers, x, lambda s: torch.full_like(s, 2))
    for name, expected in exact.items():
        torch.testing.assert_close(found[name], expected)


def test_subsampling_is_exact_where_one_input_of_four_speaks() -> None:
    """A coefficient is the weight of four connections, whose products (23) leaves out."""
    torch.manual_seed(3)
    layers: Layers = [
        (doubled(Subsampling(1, init="sqrt")), True),
        (doubled(MapConvolution([(0,)], 1, 1, init="sqrt")), True),
        (nn.Flatten(), False),
    ]
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    for y, column, value in ((0, 1, 0.4), (1, 2, -1.3), (3, 0, 0.8), (2, 3, 2.0)):
        x[0, 0, y, column] = value
    exact = gauss_newton(layers, x, None, None)
    found = recursion(layers, x, lambda s: torch.full_like(s, 2))
    for name, expected in exact.items():
        torch.testing.assert_close(found[name], expected)
    # A single unit with four inputs: the sum of squares, where the exact value has the square
    # of the sum.
    window = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64).view(1, 1, 2, 2)
    single = [layers[0], layers[2]]
    ratio = (
        recursion(single, window, lambda s: torch.full_like(s, 2))["0.coefficient"]
        / gauss_newton(single, window, None, None)["0.coefficient"]
    )
    assert float(ratio.detach()) == pytest.approx((1 + 4 + 9 + 25) / 11**2)


@pytest.mark.parametrize("garbage", [None, 3.0])
def test_every_layer_follows_the_papers_equations(garbage: float | None) -> None:
    """(23), (25) and (27) connection by connection, from Jacobians of single layers."""
    layers, rbf, x = tiny_network()
    states, sums = [x], []
    for layer, squashed in layers:
        sums.append(layer(states[-1]).detach())
        states.append(squash(sums[-1]) if squashed else sums[-1])
    h = output_curvature(states[-1], rbf, garbage).flatten()
    found = recursion(layers, x, lambda s: output_curvature(s, rbf, garbage))
    for index in reversed(range(len(layers))):
        layer, squashed = layers[index]
        if squashed:
            h = h * squash_slope(sums[index]).flatten() ** 2
        for name, parameter in layer.named_parameters():

            def run(w: Tensor, layer: nn.Module = layer, name: str = name) -> Tensor:
                sums: Tensor = functional_call(layer, {name: w}, states[index])  # noqa: B023
                return sums.flatten()

            jacobian = jacrev(run)(parameter.detach()).flatten(1)  # (units, weights)
            squares = jacobian**2
            if name == "coefficient":  # four connections of one weight go to one unit
                windows = nn.functional.unfold(states[index].transpose(0, 1), 2, stride=2)
                squares = (windows**2).sum(1).flatten()[:, None] * (jacobian != 0)
            expected = (h @ squares).view_as(parameter)
            torch.testing.assert_close(found[f"{index}.{name}"], expected)
        links = jacrev(lambda y, layer=layer: layer(y).flatten())(states[index]).flatten(1)
        h = h @ links**2


def test_the_estimate_is_the_mean_over_patterns() -> None:
    torch.manual_seed(4)
    model, x = LeNet5_1998(), torch.rand(130, 1, 28, 28)
    found = estimate_curvature(model, x, garbage=2.0)
    single = [estimate_curvature(model, pattern[None], garbage=2.0) for pattern in x[::13]]
    tenth = estimate_curvature(model, x[::13], garbage=2.0)
    for k, (mean, parameter) in enumerate(zip(tenth, model.parameters(), strict=True)):
        assert found[k].shape == mean.shape == parameter.shape
        assert float(found[k].min()) >= 0
        torch.testing.assert_close(mean, torch.stack([h[k] for h in single]).mean(0))


def test_other_networks_are_refused() -> None:
    for model in (LeNet5_1998(output="linear"), LeNet5_1998(pooling="average")):
        with pytest.raises(ValueError, match="trainable subsampling and RBF outputs"):
            estimate_curvature(model, torch.zeros(1, 1, 28, 28), garbage=None)
