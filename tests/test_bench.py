import pytest
import torch
from torch import nn

from lenet.bench import run_bench
from lenet.bench.measure import FLOP_PER_IMAGE, _compare
from lenet.models import LeNet5


def test_operations_of_an_image_are_counted_from_the_layers() -> None:
    model = LeNet5()
    forward = input_gradients = 0
    x = model.prepare(torch.zeros(1, 1, 28, 28))
    for layer in [*model.feature_extractor, nn.Flatten(), *model.classifier]:
        y = layer(x)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            per_output = layer.weight[0].numel()
            forward += y.numel() * per_output
            # The image needs no gradient.
            input_gradients += y.numel() * per_output if x.shape[-1] != 32 else 0
        x = y
    # Two operations a multiply-add: forward, weight gradients (as many), input gradients.
    assert 2 * (2 * forward + input_gradients) == FLOP_PER_IMAGE


def test_ratios_are_to_the_native_engine() -> None:
    speeds = {
        ("train", "native"): [100.0, 300.0, 200.0],
        ("train", "torch"): [40.0, 20.0, 30.0],
        ("infer 1", "torch"): [5.0],
    }
    results = {(r.discipline, r.name): r for r in _compare(speeds)}
    assert results["train", "native"].ratio == 1
    assert results["train", "torch"].ratio == pytest.approx(200 / 30)
    assert results["train", "torch"].slowest == 20
    assert results["infer 1", "torch"].ratio == 1


def test_a_contestant_that_is_missing_is_left_out_with_its_reason(
    tiny_mnist: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    before = torch.get_num_threads()
    more = {("train", "mine"): (lambda: None, 32)}
    record = run_bench(num_images=32, rounds=1, num_threads=1, more=lambda setup: more)
    assert "pip install '.[onnx]'" in record.left_out["ONNX Runtime"]
    names = {r.name for r in record.results}
    if "native" in record.left_out:  # no C++ compiler either
        assert "compiler" in record.left_out["native"]
        assert names == {"torch", "mine"}
    else:
        assert names == {"native", "native, one pass", "torch", "mine"}
    assert torch.get_num_threads() == before
