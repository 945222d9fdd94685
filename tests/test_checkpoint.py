import json
import os
import pickle
import stat
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lenet.errors import CheckpointError
from lenet.files import replacing
from lenet.models import LeNet5
from lenet.models.files import load_model, save_model
from lenet.schema import CardScores, ModelCard
from lenet.training.run import load_state, save_state

CLASSES = tuple("0123456789")


def card(model: LeNet5, **changes: Any) -> ModelCard:
    values = {"model": "lenet5", "config": model.config(), "classes": CLASSES, "dataset": "mnist"}
    return ModelCard(**{**values, **changes})


@pytest.fixture
def model() -> LeNet5:
    torch.manual_seed(0)
    return LeNet5(background=-0.1, ink=1.175, pooling="max")


def test_a_model_survives_its_file(model: LeNet5, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", model, card(model, seed=3))
    again, found = load_model(tmp_path / "m.safetensors")
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(again(x), model(x))
    assert found.seed == 3
    assert tuple(found.classes) == CLASSES
    assert not again.training


def test_equal_models_are_equal_files(model: LeNet5, tmp_path: Path) -> None:
    for name in "ab":
        scores = CardScores(test_accuracy=0.5, val_accuracy=0.25)
        save_model(tmp_path / name, model, card(model, scores=scores))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_save_that_dies_leaves_the_old_file(
    model: LeNet5, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, model, card(model))
    before = path.read_bytes()

    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(OSError, match="No space"):
        save_model(path, LeNet5(), card(LeNet5()))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_a_model_file_is_readable_as_the_umask_says(model: LeNet5, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_model(tmp_path / "m.safetensors", model, card(model))
        with replacing(tmp_path / "p.safetensors") as temporary:
            save_file(model.state_dict(), temporary)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert modes == [0o644, 0o644]


def write(path: Path, tensors: dict[str, torch.Tensor], header: Any) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(tensors, path, metadata={"lenet": text})
    return path


def good(model: LeNet5) -> dict[str, Any]:
    return {
        "format": 1,
        "model": "lenet5",
        "config": model.config(),
        "classes": list(CLASSES),
        "dataset": "mnist",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"Invalid enum value 2 - at `\$.format`"),
        ({"model": "resnet"}, r"'resnet' - at `\$.model`"),
        ({"model": ["lenet5"]}, r"got `array` - at `\$.model`"),
        ({"config": {}}, "missing required field"),
        ({"config": []}, r"got `array` - at `\$.config`"),
        ({"classes": ["a"]}, "`classes` must name each of the 10"),
        ({"classes": "0123456789"}, r"got `str` - at `\$.classes`"),
        ({"scores": {"temperature": 1e-300}}, r"at `\$.scores.temperature`"),
        ({"scores": {"temperature": 1e300}}, r"at `\$.scores.temperature`"),
        ({"scores": {"temperature": "1"}}, r"at `\$.scores.temperature`"),
        ({"scores": []}, r"at `\$.scores`"),
        ({"recipe": []}, r"at `\$.recipe`"),
        ({"recipe": {"num_val": [1]}}, r"at `\$.recipe"),
        ({"dataset": ["mnist"]}, r"at `\$.dataset`"),
        ({"classes": [*CLASSES[:9], "\ud800"]}, "lenet` key"),
    ],
)
def test_a_strange_header_is_refused(
    changes: dict[str, Any], message: str, model: LeNet5, tmp_path: Path
) -> None:
    path = write(tmp_path / "m", model.state_dict(), {**good(model), **changes})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_classes", 10**9),
        ("num_classes", "10"),
        ("in_channels", 10**9),
        ("activation", "__import__"),
        ("ink", 1e300),
    ],
)
def test_a_config_that_asks_for_too_much_is_refused(
    key: str, value: object, model: LeNet5, tmp_path: Path
) -> None:
    header = good(model)
    header["config"] = {**header["config"], key: value}
    with pytest.raises(CheckpointError, match=key.split("_")[-1]):
        load_model(write(tmp_path / "m", model.state_dict(), header))


@pytest.mark.parametrize("header", ["", "[", "[]", "null", "3", "[" * 5000, '{"format": 1}'])
def test_a_header_that_is_no_object_is_refused(header: str, model: LeNet5, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="`lenet` key of its header"):
        load_model(write(tmp_path / "m", model.state_dict(), header))


def test_other_tensors_are_refused(model: LeNet5, tmp_path: Path) -> None:
    weights = model.state_dict()
    name = "classifier.2.bias"
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        ({**weights, "extra": torch.zeros(1)}, "extra"),
        ({k: v for k, v in weights.items() if k != name}, "missing"),
        ({**weights, name: torch.zeros(11)}, r"expected F32 \[10\], found F32 \[11\]"),
        ({**weights, name: torch.zeros(10, dtype=torch.int64)}, "found I64"),
        ({**weights, name: torch.full((10,), float("inf"))}, "NaN or infinity"),
    ]
    for tensors, message in cases:
        with pytest.raises(CheckpointError, match=message):
            load_model(write(tmp_path / "m", tensors, good(model)))


def test_files_of_other_kinds_are_refused(model: LeNet5, tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_model(path, model, card(model))
    whole = path.read_bytes()
    for content in (
        b"",
        b"<!doctype html>",
        whole[:1000],
        whole[:-1],
        whole + b"x",
        struct.pack("<Q", 2**63) + b"{}",
        pickle.dumps({"a": 1}),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="expected a safetensors file"):
            load_model(path)
    save_file(model.state_dict(), path)
    with pytest.raises(CheckpointError, match="not one of lenet's"):
        load_model(path)
    with path.open("r+b") as file:
        file.truncate(10**9)
    with pytest.raises(CheckpointError, match="at most"):
        load_model(path)


def test_a_missing_file_and_an_unfinished_run_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(tmp_path / "none")
    with pytest.raises(CheckpointError, match="not finished"):
        load_model(tmp_path)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch bomb-went-off",)


def test_a_hostile_state_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "resume.pt"
    torch.save({"model": Bomb()}, path)
    with pytest.raises(CheckpointError, match=r"resume\.pt"):
        load_state(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=r"resume\.pt"):
        load_state(path)
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize("cut", [0, 10, 1000, -1])
def test_a_damaged_state_is_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "resume.pt"
    save_state(path, {"a": torch.zeros(1000)})
    assert torch.equal(load_state(path)["a"], torch.zeros(1000))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="expected a resume state"):
        load_state(path)
