from pathlib import Path

import numpy as np
import pytest
import torch

from lenet.models import LeNet5
from lenet.models.files import save_model
from lenet.reading.inference import read_network
from lenet.schema import ModelCard

CLASSES = tuple("0123456789")


def save(path: Path, model: LeNet5) -> Path:
    card = ModelCard(model="lenet5", config=model.config(), classes=CLASSES, dataset="mnist")
    save_model(path, model, card)
    return path


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_numpy_computes_what_torch_does(activation: str, pooling: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LeNet5(activation=activation, pooling=pooling, background=-0.1, ink=1.175)
    found = read_network(save(tmp_path / "m.safetensors", model))
    assert found is not None
    network, card = found
    assert card.classes == tuple(CLASSES)
    images = np.random.default_rng(0).integers(0, 256, (150, 28, 28), dtype=np.uint8)
    with torch.no_grad():
        expected = model(torch.from_numpy(images).unsqueeze(1).float() / 255).numpy()
    np.testing.assert_allclose(network.logits(images), expected, rtol=0, atol=1e-5)
    assert network.logits(images[:0]).shape == (0, 10)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("width", [32, 45])
def test_a_sweep_is_the_network_at_each_second_column(
    pooling: str, width: int, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = LeNet5(activation="relu", pooling=pooling, background=-0.4, ink=2.8).eval()
    found = read_network(save(tmp_path / "m.safetensors", model))
    assert found is not None
    field = np.random.default_rng(1).random((2, 32, width)).astype(np.float32)
    with torch.no_grad():
        swept = model.sweep(torch.from_numpy(field).unsqueeze(1)).numpy()
    np.testing.assert_allclose(found[0].sweep(field), swept, rtol=0, atol=1e-5)
    assert swept.shape == (2, (width - 32) // 2 + 1, 10)
    for place in range(swept.shape[1]):
        window = torch.from_numpy(field[:, :, 2 * place : 2 * place + 32].copy())
        with torch.no_grad():
            expected = model(window.unsqueeze(1)).numpy()
        np.testing.assert_allclose(swept[:, place], expected, rtol=0, atol=1e-5)


def test_other_models_and_damaged_files_are_left_to_torch(tmp_path: Path) -> None:
    assert read_network(tmp_path / "none") is None
    broken = tmp_path / "broken"
    broken.write_bytes(b"no tensors")
    assert read_network(broken) is None
    assert read_network(save(tmp_path / "m.safetensors", LeNet5(resize="stretch"))) is None
