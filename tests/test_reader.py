import io
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lenet
from lenet.errors import CheckpointError, PictureError
from lenet.models import LeNet5
from lenet.models.files import load_model, save_model
from lenet.reading.reader import Reader
from lenet.schema import CardScores, ModelCard


@pytest.fixture(scope="session")
def reader() -> Reader:
    return Reader.from_pretrained()


def test_the_model_of_the_package_reads_every_kind_of_source(
    reader: Reader, seven: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "seven.png"
    seven.save(path)
    buffer = io.BytesIO()
    seven.save(buffer, "PNG")
    sources: list[Any] = [path, str(path), buffer.getvalue(), np.asarray(seven), seven]
    for source in sources:
        digit = reader.read_digit(source)
        assert digit.label == "7"
        assert digit.probability > 0.8
        assert digit.second != "7"
        assert 0.9 < sum(digit.probabilities) < 1  # the rest is that of no digit
        assert digit.probabilities[7] == digit.probability >= digit.second_probability
        assert digit.box is not None
        assert abs(digit.box[0] - 82) < 12
    assert lenet.Reader is Reader


def test_the_first_item_of_a_pytorch_dataset_is_read(reader: Reader, seven: Image.Image) -> None:
    pixels = np.asarray(seven.convert("L").resize((28, 28)))
    tensor = torch.from_numpy(255 - pixels).float().unsqueeze(0) / 255  # (1, 28, 28), 1 = ink
    for source in (tensor, tensor[0], tensor.requires_grad_(), tensor.expand(3, -1, -1)):
        assert reader.read_digit(source).label == "7"
    for array in (tensor.detach().numpy(), pixels[None], pixels.tolist()):
        assert reader.read_digit(array).label == "7"


@pytest.mark.parametrize(
    "source",
    [
        np.array(5), np.zeros(784), np.zeros((0, 28)), np.zeros((28, 28, 2)), np.zeros((2, 28, 28)),
        np.zeros((1, 1, 28, 28)), np.array([["a"]]), np.array([[None]]), np.float64(3), 5, None,
        [[1], [2, 3]],
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_picture_is_one_error(reader: Reader, source: Any) -> None:
    for read in (reader.read_digit, reader.read_number):
        with pytest.raises(PictureError, match=r"expected|can't be read"):
            read(source)


def test_values_of_any_size_are_taken_without_a_warning(reader: Reader) -> None:
    reader.read_digit(np.full((28, 28), 1e300))


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_every_way_to_read_uses_the_temperature(
    resize: str, seven: Image.Image, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = LeNet5(resize=resize)
    readers = []
    for name, temperature in (("plain", None), ("hot", 5.0)):
        scores = CardScores(temperature=temperature)
        card = ModelCard(
            model="lenet5", config=model.config(), classes=tuple("0123456789"), dataset="mnist",
            scores=scores, has_garbage=True,
        )  # fmt: skip
        save_model(tmp_path / name, model, card)
        readers.append(Reader.from_model(tmp_path / name))
    plain_reader, _ = readers
    plain, hot = (r.read_digit(seven) for r in readers)
    # Of garbage, whose logit is 0, is what the probabilities lack to 1.
    scaled = np.log(np.array(plain.probabilities) / (1 - sum(plain.probabilities))) / 5.0
    expected = np.exp(scaled) / (1 + np.exp(scaled).sum())
    assert hot.probabilities == pytest.approx(expected, abs=1e-5)
    if resize == "stretch":  # of which wide fields are not defined
        with pytest.raises(PictureError, match="doesn't read numbers"):
            plain_reader.read_number(seven)
        return
    numbers = [r.read_number(seven) for r in readers]
    assert numbers[0].text == numbers[1].text
    assert numbers[0].probability != numbers[1].probability


def test_a_blank_page_is_no_digit(reader: Reader) -> None:
    digit = reader.read_digit(np.full((200, 300), 240, np.uint8))
    assert (digit.label, digit.second, digit.probability, digit.box) == (None, None, 0.0, None)


Y, X = np.mgrid[:768, :768]
CROWDED = {
    "noise": np.random.default_rng(6).integers(0, 256, Y.shape),
    "black and white noise": np.random.default_rng(6).integers(0, 2, Y.shape) * 255,
    "chessboard": (X + Y) % 2 * 255,
    "dots": 255 - (X % 4 < 2) * (Y % 4 < 2) * 255,
    "bars": (X % 12 > 3) * 255,
    "lines of bars": 255 - (X % 12 < 4) * (Y % 76 < 38) * 255,
}


@pytest.mark.parametrize("kind", CROWDED)
def test_a_crowded_page_costs_seconds_at_most(reader: Reader, kind: str) -> None:
    page = CROWDED[kind].astype(np.uint8)
    start = time.process_time()
    reader.read_digit(page)
    with suppress(PictureError):  # more pieces of ink than a number has
        reader.read_number(page)
    assert time.process_time() - start < 20


def test_the_box_is_in_the_pixels_of_the_picture_that_was_given(
    reader: Reader, seven: Image.Image
) -> None:
    digit = reader.read_digit(seven.resize((3000, 3000)))
    assert digit.label == "7"
    assert digit.box is not None
    for found, expected in zip(digit.box, (820, 520, 2180, 2480), strict=True):
        assert abs(found - expected) < 90


def test_a_number_on_a_card_is_read_and_its_box_is_in_the_whole_picture(
    reader: Reader, seven: Image.Image
) -> None:
    small = seven.convert("L").resize((90, 90))
    paper, ink = np.asarray(small).max(), np.asarray(small).min()
    card = Image.new("L", (240, 120), int(ink))
    for left in (20, 120):
        card.paste(small.point([int(paper) + int(ink) - v for v in range(256)]), (left, 15))
    page = Image.new("L", (600, 400), int(paper))
    page.paste(card, (310, 220))
    number = reader.read_number(page)
    assert number.text == "77"
    (line,) = number.lines
    assert 310 < line.box[0] < line.box[2] < 550
    assert 220 < line.box[1] < line.box[3] < 340


def test_the_package_s_model_is_the_one_in_its_record() -> None:
    path = Path(lenet.__file__).parent / "pretrained" / "robust.safetensors"
    assert path.stat().st_size < 260_000
    model, card = load_model(path)
    assert sum(p.numel() for p in model.parameters()) == 61_706
    assert card.recipe_name == "robust"
    assert card.seed == 0


def test_any_model_of_this_project_reads(seven: Image.Image, tmp_path: Path) -> None:
    """Those that numpy computes here, and those that only torch does."""
    for resize in ("pad", "stretch"):
        torch.manual_seed(0)
        model = LeNet5(2, resize=resize)
        card = ModelCard(model="lenet5", config=model.config(), classes=("a", "b"), dataset="x")
        path = tmp_path / f"{resize}.safetensors"
        save_model(path, model, card)
        digit = Reader.from_model(path).read_digit(seven)
        image = digit.normalized.image
        assert image is not None
        views = [
            np.array(Image.fromarray(image).rotate(turn, Image.Resampling.BILINEAR))
            for turn in (0, 8, -8)
        ]
        with torch.no_grad():
            logits = model(torch.from_numpy(np.stack(views)).unsqueeze(1) / 255).mean(0)
        assert digit.probabilities == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
        assert digit.label in ("a", "b")


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        Reader.from_model(tmp_path / "none.safetensors")
    model = LeNet5(in_channels=3)
    card = ModelCard(
        model="lenet5", config=model.config(), classes=tuple("0123456789"), dataset="x"
    )
    save_model(tmp_path / "colour.safetensors", model, card)
    with pytest.raises(CheckpointError, match="3 channels"):
        Reader.from_model(tmp_path / "colour.safetensors")


def test_temperature_softens_and_does_not_reorder() -> None:
    def logits(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.tile(np.arange(10, dtype=np.float32), (len(images), 1))

    images = np.zeros((2, 28, 28), np.uint8)
    sharp = Reader(logits).probabilities(images)
    soft = Reader(logits, temperature=2.0).probabilities(images)
    assert sharp.shape == soft.shape == (2, 10)
    assert (sharp.argmax(1) == 9).all()
    assert (soft.argmax(1) == 9).all()
    assert soft[0, 9] < sharp[0, 9]


def test_what_can_not_be_read_says_why(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="No such file"):
        reader.read_digit(tmp_path / "none.png")
