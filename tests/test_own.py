import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from lenet.cli.main import main
from lenet.data.digits import Digits
from lenet.errors import CheckpointError, PictureError
from lenet.models import build_network
from lenet.models.files import load_model
from lenet.reading.reader import pretrained_model
from lenet.schema import RunRecord, read
from lenet.training.own import add_own, keep_own, keep_start, load_start, read_own
from lenet.training.recipe import RECIPES
from lenet.training.run import create_run

CLASSES = tuple("0123456789")
TINY = ("--epochs", "1", "--num-val", "0", "--non-digits", "0", "--lines", "0", "--quiet")


def draw(label: str, shift: int) -> Image.Image:
    image = Image.new("L", (100, 100), 240)
    pen = ImageDraw.Draw(image)
    pen.line((50 + shift, 20, 40, 80), fill=10, width=8)
    if label == "7":
        pen.line((20, 20, 50 + shift, 20), fill=10, width=8)
    return image


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures each of ones and sevens."""
    folder = tmp_path / "pictures"
    for label in "17":
        (folder / label).mkdir(parents=True)
        for number in range(10):
            draw(label, number).save(folder / label / f"{number}.png")
    return folder


def test_pictures_are_normalized_and_a_fifth_of_each_label_is_held_out(pictures: Path) -> None:
    Image.new("L", (50, 50), 255).save(pictures / "7" / "blank.png")
    (pictures / "1" / "broken.png").write_bytes(b"no picture")
    failed: list[str] = []
    own = read_own(pictures, CLASSES, lambda path, error: failed.append(path.name))
    assert sorted(failed) == ["blank.png", "broken.png"]
    assert own.images.shape == (20, 28, 28)
    assert own.images.dtype == torch.uint8
    assert own.labels.tolist() == [1] * 10 + [7] * 10
    assert [int(own.held_out[own.labels == label].sum()) for label in (1, 7)] == [2, 2]
    again = read_own(pictures, CLASSES, lambda path, error: None)
    assert torch.equal(again.held_out, own.held_out)
    (pictures / "x").mkdir()
    draw("7", 0).save(pictures / "x" / "1.png")
    with pytest.raises(PictureError, match="must be named"):
        read_own(pictures, CLASSES, lambda path, error: None)


def test_own_pictures_join_the_data_set_and_what_is_held_out_does_not(
    pictures: Path, tmp_path: Path
) -> None:
    run = create_run(tmp_path / "run", "default", RECIPES["default"], 0)
    train = Digits(
        images=torch.zeros(1000, 28, 28, dtype=torch.uint8),
        labels=torch.zeros(1000, dtype=torch.int64),
        name="x",
        split="train",
        classes=CLASSES,
    )
    assert add_own(run, train, None) == (train, None)
    own = read_own(pictures, CLASSES, lambda path, error: None)
    keep_own(run, own)
    joined, val = add_own(run, train, None)
    assert val is not None
    assert torch.equal(val.images, own.images[own.held_out])
    # A tenth of 1000 is six times the 16 that are left.
    assert len(joined) == 1000 + 6 * 16
    assert torch.equal(joined.images[1000:1016], own.images[~own.held_out])
    held = {bytes(image.numpy().tobytes()) for image in val.images}
    assert not held & {bytes(image.numpy().tobytes()) for image in joined.images}
    (run.path / "own.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="expected digits"):
        add_own(run, train, None)


def test_a_run_begins_with_the_weights_it_is_given(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", "robust", RECIPES["robust"], 0)
    with pretrained_model() as ours:
        keep_start(run, ours)
        expected, _ = load_model(ours)
    network = build_network(run.recipe, 0, num_classes=11)
    load_start(run, network)
    x = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        logits = network(x)
        torch.testing.assert_close(logits[:, :10], expected(x))
        assert torch.equal(logits[:, 10], torch.zeros(4))
    other = create_run(tmp_path / "other", "default", RECIPES["default"], 0)
    with pretrained_model() as ours, pytest.raises(CheckpointError, match="another activation"):
        keep_start(other, ours)


def test_lenet_train_fine_tunes_on_a_persons_pictures(
    tiny_mnist: None,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "robust", "--images", str(pictures), "--start", "pretrained", *TINY]
    assert main([*arguments, "--lr", "1e-4", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["scores"]["val"]["num_images"] == 4
    assert set(record["data_sha256"]) == {"train", "test", "own", "start"}
    # It began as the package's model, which knows ones and sevens.
    assert record["val_accuracy"] == 1
    assert main(["evaluate", "runs/robust-seed0", "--images", str(pictures), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9


def test_a_handful_of_pictures_does_not_set_the_temperature(
    tiny_mnist: None, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["train", "robust", "--images", str(pictures), "--start", "pretrained", *TINY]
    assert main([*arguments, "--out", str(out)]) == 0
    with pretrained_model() as ours:
        expected = load_model(ours)[1].temperature
    assert load_model(out)[1].temperature == expected


def test_a_run_killed_before_its_pictures_were_copied_is_resumed_with_them(
    tiny_mnist: None, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as killed:

        def die(*arguments: object) -> None:
            raise KeyboardInterrupt

        killed.setattr("lenet.training.own.keep_own", die)
        arguments = ["train", "robust", "--images", str(pictures), "--start", "pretrained", *TINY]
        assert main([*arguments, "--out", str(out)]) == 130
    assert main(["train", "--resume", "--out", str(out), "--quiet"]) == 0
    record = read(out / "record.json", RunRecord)
    assert set(record.data_sha256) == {"train", "test", "own", "start"}
    report = (out / "report.html").read_text()
    assert f"--images {pictures} --start pretrained" in report


def test_evaluate_scores_the_images_that_the_run_held(
    tiny_mnist: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["train", "--images", str(pictures), "--num-val", "20", "--num-train", "30"]
    assert main([*arguments, "--epochs", "1", "--quiet", "--out", str(out)]) == 0
    record = read(out / "record.json", RunRecord)
    capsys.readouterr()
    for split in ("train", "val"):
        assert main(["evaluate", str(out), "--split", split, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["num_images"] == record.scores[split].num_images
        assert found["loss"] == record.scores[split].loss
    elsewhere = tmp_path / "model.safetensors"
    elsewhere.write_bytes((out / "model.safetensors").read_bytes())
    assert main(["evaluate", str(elsewhere), "--split", "train"]) == 1
    assert "run directory" in capsys.readouterr().err


def test_copies_of_a_picture_are_on_one_side_of_the_cut(pictures: Path) -> None:
    for number in range(10):
        draw("7", 0).save(pictures / "7" / f"{number}.png")  # the same picture ten times
    draw("1", 0).save(pictures / "7" / "1.bmp")  # under another label, too
    own = read_own(pictures, CLASSES, lambda path, error: None)
    keys = [image.numpy().tobytes() for image in own.images]
    held = {key for key, out in zip(keys, own.held_out.tolist(), strict=True) if out}
    trained = {key for key, out in zip(keys, own.held_out.tolist(), strict=True) if not out}
    assert held
    assert not held & trained


def test_too_few_pictures_to_hold_any_out_are_told(
    tiny_mnist: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "few" / "7").mkdir(parents=True)
    draw("7", 0).save(tmp_path / "few" / "7" / "a.png")
    arguments = ["train", "--images", str(tmp_path / "few"), "--epochs", "1", "--num-val", "20"]
    assert main([*arguments, "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert "none is held out, and val figures are of mnist alone" in caplog.text


def test_what_can_not_start_leaves_no_run(
    tiny_mnist: None,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (["--images", "nowhere"], "no such folder"),
        (["--start", "nowhere"], "no such file"),
        (["--start", "pretrained"], "not the recipe's network"),
    ):
        assert main(["train", *TINY, *arguments]) == 1
        assert said in capsys.readouterr().err
        assert not list(Path("runs").glob("*")) if Path("runs").exists() else True
    assert main(["train", "fast", "--epochs", "1", "--quiet"]) == 0
    assert main(["train", "fast", "--resume", "--images", str(pictures)]) == 1
    assert "keeps its pictures" in capsys.readouterr().err


def test_a_resumed_run_must_find_the_same_pictures(
    make_stopped: Callable[[Path], Path], pictures: Path
) -> None:
    path = make_stopped(pictures)
    from lenet.training.loop import train
    from lenet.training.run import open_run

    run = open_run(path)
    own = read_own(pictures, CLASSES, lambda path, error: None)
    keep_own(run, replace(own, labels=own.labels.flip(0)))
    with pytest.raises(CheckpointError, match="another data"):
        train(run)


@pytest.fixture
def make_stopped(tiny_mnist: None, tmp_path: Path) -> Callable[[Path], Path]:
    """A run on own pictures that has trained, its record taken away."""
    from lenet.training.loop import train

    def make(pictures: Path) -> Path:
        recipe = replace(RECIPES["default"], num_val=0, epochs=1)
        run = create_run(tmp_path / "stopped", "default", recipe, 0)
        keep_own(run, read_own(pictures, CLASSES, lambda path, error: None))
        train(run)
        (run.path / "record.json").unlink()
        return run.path

    return make
