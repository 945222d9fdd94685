import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lenet.errors import LeNetError, RunError
from lenet.results import plots
from lenet.results.report import ORIGINALS, write_report
from lenet.schema import EpochScores, RunRecord, read
from lenet.training.loop import train
from lenet.training.recipe import RECIPES
from lenet.training.run import create_run
from lenet.training.training_loop import plot_losses

FIGURES = ("losses", "predictions", "mistakes", "confusion", "filters")


@pytest.fixture
def run(tiny_mnist: None, tmp_path: Path) -> Path:
    path = tmp_path / "run"
    recipe = replace(RECIPES["report"], epochs=2, batch_size=20)
    train(create_run(path, "report", recipe, 0))
    return path


def test_report_is_one_file_that_needs_no_other(run: Path) -> None:
    html = write_report(run).read_text()
    assert html.count("data:image/png;base64,") == len(FIGURES)
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "<script" not in html
    for name in FIGURES:
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_report_shows_the_records_numbers_and_the_originals(run: Path) -> None:
    record = read(run / "record.json", RunRecord)
    html = write_report(run).read_text()
    assert f"<b>{100 * record.train_accuracy:.2f} %</b>" in html
    assert f"<b>{100 * record.test_accuracy:.2f} %</b>" in html
    for _, train_accuracy, test_accuracy in ORIGINALS:
        assert train_accuracy in html
        assert test_accuracy in html
    assert "scores the 10,000 <em>test</em> images after every epoch" in html
    assert "lenet train report --seed 0 --batch-size 20 --epochs 2" in html
    assert f"loss {record.scores['train'].loss:.4f}" in html
    assert f"loss {record.scores['test'].loss:.4f}" in html
    assert "lenet train report --activation relu --pooling max" in html


def test_strangers_text_is_escaped(run: Path) -> None:
    path = run / "record.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "<script>x</script>"'))
    assert "<script>" not in write_report(run).read_text()


def leaves(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Where the numbers of a JSON value are."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value[:2])
        for key, item in items:
            yield from leaves(item, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def test_text_in_place_of_any_number_is_one_clear_error(run: Path) -> None:
    path = run / "record.json"
    whole = path.read_text()
    places = [p for p in leaves(json.loads(whole)) if p[0] not in ("environment", "recipe")]
    assert len(places) > 40
    for place in places:
        values = json.loads(whole)
        *parents, last = place
        inner = values
        for key in parents:
            inner = inner[key]
        inner[last] = "<b>"
        path.write_text(json.dumps(values))
        with pytest.raises(LeNetError, match=r"record\.json|recipe"):
            read(path, RunRecord)


def test_an_unfinished_run_has_no_report(run: Path) -> None:
    (run / "record.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        write_report(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scores", {}),
        ("scores", []),
        ("scores", {"test": {}}),
        ("epochs", []),
        ("recipe", 0),
        ("recipe", {}),
        ("environment", None),
        ("environment", {}),
        ("data_sha256", {}),
        ("train_loss", None),
        ("train_loss", math.nan),
        ("test_wrong", [-1]),
    ],
)
def test_a_record_with_parts_missing_is_one_clear_error(run: Path, key: str, value: object) -> None:
    path = run / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    if key == "recipe":
        path.write_text(json.dumps({**json.loads(path.read_text()), key: {"dataset": "cats"}}))
    with pytest.raises(LeNetError, match=r"record\.json"):
        write_report(run)


def test_a_confusion_matrix_of_other_classes_is_one_clear_error(run: Path) -> None:
    path = run / "record.json"
    record = json.loads(path.read_text())
    for matrix in ([[1, 2], [3, 4]], [[1, 2]], []):
        record["scores"]["test"]["confusion"] = matrix
        path.write_text(json.dumps(record))
        with pytest.raises(RunError, match=r"record\.json.*confusion"):
            write_report(run)


def test_predictions_of_other_images_are_refused(run: Path) -> None:
    (run / "predictions.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="expected the logits of the test images"):
        write_report(run)


def make_epochs(num_epochs: int, **changes: float) -> list[EpochScores]:
    return [
        EpochScores(
            epoch=i + 1,
            train_loss=1 / (i + 1),
            train_accuracy=0.9,
            lr=1e-3,
            duration_s=1.0,
            images_per_s=10.0,
            **changes,
        )
        for i in range(num_epochs)
    ]


def test_loss_figure_names_the_split_of_each_curve() -> None:
    def labels(epochs: list[EpochScores]) -> list[str]:
        axes = plots.losses_figure(epochs, test_loss=0.5).axes[0]
        return [str(line.get_label()) for line in axes.lines]

    assert labels(make_epochs(3)) == [
        "training images (running mean)",
        "test images, scored once",
    ]
    assert "val images (cut from training)" in labels(make_epochs(3, val_loss=0.3))
    with_test = labels(make_epochs(3, test_loss=0.3))
    assert "test images, every epoch (the notebook's validation)" in with_test
    assert "test images, scored once" not in with_test


def test_prediction_grid_marks_the_wrong_ones() -> None:
    images = torch.zeros(50, 28, 28, dtype=torch.uint8)
    labels = torch.arange(50) % 10
    logits = torch.nn.functional.one_hot(labels, 10).float() * 10
    logits[7] = logits[8]
    figure = plots.predictions_figure(images, labels, logits, list("abcdefghij"))
    texts = figure.axes[0].texts
    titles = [text.get_text() for text in texts]
    assert titles[0] == "#0\nread a (100%)\ntrue a"
    assert titles[7] == "#7\nread i (100%)\ntrue h"
    wrong = [i for i, text in enumerate(texts) if text.get_color() == plots.WRONG_COLOUR]
    assert wrong == [7]


def test_mistakes_come_worst_first_and_none_is_no_error() -> None:
    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.tensor([[0.0, 1.0], [0.0, 5.0], [0.0, 1.0], [3.0, 0.0]])
    texts = plots.mistakes_figure(images, labels, logits, "ab").axes[0].texts
    assert [text.get_text().split("\n")[0] for text in texts] == ["#1", "#3", "#0"]
    assert plots.mistakes_figure(images[2:3], labels[2:3], logits[2:3], "ab") is not None


def test_plot_losses_draws_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", pytest.fail)
    pyplot.switch_backend("agg")
    figure = plot_losses([3.0, 2.0], [2.5, 1.5])
    lines = figure.axes[0].lines
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [[3.0, 2.0], [2.5, 1.5]]
    assert figure.axes[0].get_title() == "Loss over epochs"
    pyplot.close("all")


def test_equal_figures_are_equal_files(tmp_path: Path) -> None:
    write: Callable[[Path], None] = lambda path: plots.save_figure(  # noqa: E731
        plots.losses_figure(make_epochs(3), test_loss=0.1), path
    )
    write(tmp_path / "a.png")
    write(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
