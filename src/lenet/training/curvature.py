"""The diagonal of the Hessian as the paper estimates it, for the 1998 network.

A weight w_k is shared by many connections u_ij between units, a_i = sum_j u_ij x_j, x_i = f(a_i).
The paper's recursion, from the output to the input, for one pattern:

    (23)  h_kk         = sum of d2E/du_ij^2 over the connections (i, j) that share w_k
    (25)  d2E/du_ij^2  = d2E/da_i^2 * x_j^2
    (27)  d2E/da_i^2   = f'(a_i)^2 * sum of u_ki^2 * d2E/da_k^2 over the units k that i feeds

and h_kk is then averaged over patterns. (23) leaves out the products of two connections of one
weight, (27) those of two units that feed a common one. Where there are none, and the criterion's
own part is exact, the result is the diagonal of the Gauss-Newton matrix: for F6 and C5 always, for
the layers before them only in networks built so (tests/test_curvature.py has some).

A layer's weighted sums are linear in its weights and in its inputs, so both sums over squares are
the layer's own gradients: (25) and (23) those of its weights at squared inputs, (27) those of its
inputs at squared weights.

Source: LeCun et al. 1998, appendix C, eqs. (22) to (27).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lenet.models.lenet5_1998 import RBF, LeNet5_1998, squash, squash_slope

CURVATURE_PATTERNS = 500
"""Patterns that h_kk is averaged over before each pass. Source: appendix C."""
_CHUNK = 100


def output_curvature(x: Tensor, rbf: RBF, garbage: float | None) -> Tensor:
    """Return d2E/dx_j^2 of each pattern's criterion at the state of F6, exactly.

    The criterion is a convex function of ten penalties y_i = |x - w_i|^2. For the MSE it is y_D,
    whose second derivative is 2. For MAP, with d_ij = x_j - w_ij and q_i the share of class i
    (the garbage class has the rest, q_r), it is 2 q_r + 4 (sum_i q_i d_ij^2 - (sum_i q_i d_ij)^2).

    Args:
        x: (B, 84), the state of F6.
        rbf: The output units.
        garbage: j of the MAP criterion, infinite for cross-entropy; None for the MSE.

    Returns:
        (B, 84), at least 0.
    """
    if garbage is None:
        return torch.full_like(x, 2.0)
    logits = torch.cat([-rbf(x), x.new_full((len(x), 1), -garbage)], 1)
    shares = logits.softmax(1)  # (B, 11)
    q, rest = shares[:, :-1, None], shares[:, -1:]
    d = x.unsqueeze(1) - rbf.codes  # (B, 10, 84)
    mean = (q * d).sum(1)
    # About the mean over the ten, written as a sum of squares so that rounding leaves it positive.
    spread = (q * (d - mean.unsqueeze(1)) ** 2).sum(1) + rest * mean**2
    return 2 * rest + 4 * spread


def recursion(
    layers: Sequence[tuple[nn.Module, bool]], x: Tensor, output: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Run the recursion through a stack of layers and return h_kk, summed over patterns.

    Args:
        layers: From input to output: a module linear in its inputs and in its parameters, and
            whether its weighted sums are squashed. A module without parameters is passed through.
        x: (B, ...), the input of the first.
        output: Maps the state of the last layer (B, n) to d2E/dx^2 (B, n).

    Returns:
        h_kk for each parameter, under "INDEX.NAME".
    """
    states, sums = [x], []
    with torch.no_grad():
        for layer, squashed in layers:
            sums.append(layer(states[-1]))
            states.append(squash(sums[-1]) if squashed else sums[-1])
        h = output(states[-1])
    found: dict[str, Tensor] = {}
    for index in reversed(range(len(layers))):
        layer, squashed = layers[index]
        if squashed:
            h = squash_slope(sums[index]) ** 2 * h  # d2E/da^2: the first factor of (27)
        weights = {name: w.detach() for name, w in layer.named_parameters()}
        h_w, h = _squared_backward(layer, weights, states[index], h)
        found.update({f"{index}.{name}": value for name, value in h_w.items()})
    return found


def _squared_backward(
    layer: nn.Module, weights: dict[str, Tensor], x: Tensor, h: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Return (23) with (25) for each parameter, and the sum in (27) for each input."""
    inputs = torch.zeros_like(x, requires_grad=True)
    squares = {name: w**2 for name, w in weights.items()}
    (h_x,) = torch.autograd.grad(functional_call(layer, squares, inputs), inputs, h)
    if not weights:
        return {}, h_x
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
    h_w = torch.autograd.grad(
        functional_call(layer, leaves, x**2), list(leaves.values()), h, materialize_grads=True
    )
    return dict(zip(leaves, h_w, strict=True)), h_x


def estimate_curvature(model: LeNet5_1998, x: Tensor, *, garbage: float | None) -> list[Tensor]:
    """Return h_kk for each parameter of the model, in its order, averaged over patterns.

    Args:
        model: With trainable subsampling and RBF outputs.
        x: (N, 1, 28, 28) float in [0, 1], N of `CURVATURE_PATTERNS` in the paper.
        garbage: As for `output_curvature`.

    Raises:
        ValueError: The model has other layers, which the recursion is not written for.
    """
    rbf = model.output
    if not isinstance(rbf, RBF) or model.pooling != "trainable":
        raise ValueError("the recursion is for trainable subsampling and RBF outputs")
    layers = model.layers()
    totals: dict[str, Tensor] = {}
    for part in torch.split(x, _CHUNK):
        found = recursion(layers, model.prepare(part), lambda s: output_curvature(s, rbf, garbage))
        for name, value in found.items():
            totals[name] = totals[name] + value if name in totals else value
    names = {
        id(parameter): f"{index}.{name}"
        for index, (layer, _) in enumerate(layers)
        for name, parameter in layer.named_parameters()
    }
    return [totals[names[id(parameter)]] / len(x) for parameter in model.parameters()]
