"""Draw the figures of a finished run and write its report, one HTML file that needs no other."""

import base64
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lenet import __version__
from lenet.data.datasets import Progress, find_dataset
from lenet.data.digits import Digits, load
from lenet.errors import DataError, RunError
from lenet.files import write_text
from lenet.models.files import MODEL_FILE, load_model
from lenet.results import plots
from lenet.schema import PREDICTIONS_FILE, RECORD_FILE, RunRecord, Scores, read

REPORT_FILE = "report.html"

ORIGINALS = (
    ("The original report", "99.73 %", "98.89 %"),
    ("The notebook behind it (E. Lewinson)", "99.77 %", "98.72 %"),
)
"""The report calls the second figure validation accuracy: its validation images are the test
images. Source: the report; erykml/medium_articles, lenet5_pytorch.ipynb, last epoch."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class's line in the report."""

    name: str
    num_images: int
    accuracy: float
    confused_with: str


def write_report(
    path: Path, *, data_dir: Path | None = None, progress: Progress | None = None
) -> Path:
    """Draw every figure of a finished run and write report.html into its directory.

    Args:
        path: The run directory.
        data_dir: Folder with the data set's files; the test images are drawn from it.
        progress: Called as the bytes of a file arrive, if the data set must be downloaded.

    Returns:
        The path of report.html.

    Raises:
        RunError: The run is not finished, or its files do not belong together.
    """
    if not (path / RECORD_FILE).is_file():
        raise RunError(
            f"{path}: no {RECORD_FILE} in it; the run is not finished "
            f"(`lenet train --resume --out {path}` goes on) or this is not a run directory"
        )
    record = read(path / RECORD_FILE, RunRecord)
    try:
        dataset = find_dataset(str(record.recipe["dataset"]))
    except DataError as error:
        raise RunError(f"{path / RECORD_FILE}: {error}") from None
    test = load(dataset, "test", data_dir=data_dir, progress=progress)
    logits = _read_logits(path / PREDICTIONS_FILE, test)
    model, card = load_model(path / MODEL_FILE)
    confusion = record.scores["test"].confusion
    if len(confusion) != len(card.classes):
        raise RunError(
            f"{path / RECORD_FILE}: `confusion` has {len(confusion)} classes, the model "
            f"{len(card.classes)}"
        )
    shown = (test.images, test.labels, logits, test.classes)
    figures = {
        "losses": plots.losses_figure(record.epochs, test_loss=record.test_loss),
        "predictions": plots.predictions_figure(*shown),
        "mistakes": plots.mistakes_figure(*shown),
        "confusion": plots.confusion_figure(confusion, card.classes),
        "filters": plots.filters_figure(*model.kernels()),
    }
    images = {}
    for name, figure in figures.items():
        plots.save_figure(figure, path / f"{name}.png")
        images[name] = (path / f"{name}.png").read_bytes()
    write_text(path / REPORT_FILE, _render(record, dataset.title, test.classes, images))
    return path / REPORT_FILE


def _read_logits(path: Path, test: Digits) -> Tensor:
    try:
        tensors = load_file(path)
        logits, labels = tensors["logits"], tensors["labels"]
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{path}: expected the logits of the test images, found: {error}") from None
    if logits.shape != (len(test), len(test.classes)) or not torch.equal(labels, test.labels):
        raise RunError(f"{path}: its logits are not for these {len(test)} test images")
    return logits


def _render(
    record: RunRecord, dataset_title: str, classes: tuple[str, ...], images: dict[str, bytes]
) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def image(name: str, caption: str) -> Markup:
        data = base64.b64encode(images[name]).decode()
        return Markup(
            f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("lenet").joinpath("results", "report.html.j2").read_text(encoding="utf-8")
    )
    last = record.epochs[-1]
    name = "Val" if last.val_loss is not None else "Test" if last.test_loss is not None else None
    return template.render(
        title=f"LeNet-5 on {dataset_title}",
        record=record,
        dataset_title=dataset_title,
        duration=_duration(record.training_s),
        percent=_percent,
        interval=_interval,
        originals=ORIGINALS,
        image=image,
        has_validation=name is not None,
        validation_name=name,
        per_class=_per_class(record.scores["test"].confusion, classes),
        command=_command(record),
        facts=_facts(record),
        version=__version__,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _interval(scores: Scores) -> str:
    return (
        f"95 % interval {100 * scores.accuracy_low:.2f} to {100 * scores.accuracy_high:.2f}; "
        f"{scores.num_images - scores.num_correct:,} of {scores.num_images:,} wrong"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _per_class(confusion: Sequence[Sequence[int]], classes: tuple[str, ...]) -> list[ClassRow]:
    rows = []
    for true, counts in enumerate(confusion):
        wrong = sorted(
            ((count, other) for other, count in enumerate(counts) if other != true and count),
            key=lambda pair: (-pair[0], pair[1]),
        )
        rows.append(
            ClassRow(
                name=classes[true],
                num_images=sum(counts),
                accuracy=counts[true] / max(1, sum(counts)),
                confused_with=", ".join(f"{classes[o]} ({n})" for n, o in wrong[:3]) or "-",
            )
        )
    return rows


def _command(record: RunRecord) -> str:
    from lenet.training.recipe import RECIPES

    base = RECIPES.get(record.recipe_name)
    flags = [
        _flag(key, value)
        for key, value in record.recipe.items()
        if base is not None and getattr(base, key) != value
    ]
    for name in ("images", "start"):
        if getattr(record, name) is not None:
            flags.append(f"--{name} {shlex.quote(getattr(record, name))}")
    return " ".join(["lenet train", record.recipe_name, f"--seed {record.seed}", *flags])


def _flag(name: str, value: object) -> str:
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value}"


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    machine = record.environment
    versions = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    sessions = f" in {record.num_sessions} sessions" if record.num_sessions > 1 else ""
    cores = f"{machine.num_cores} cores"
    return [
        ("Device", f"{record.device}, {record.engine} engine"),
        ("Processor", f"{machine.cpu}, {cores}"),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Versions", versions),
        ("Commit", machine.commit or "not a checkout"),
        ("Training time", _duration(record.training_s) + sessions),
        ("Training pixels and labels, SHA-256", record.data_sha256["train"]),
        ("Test pixels and labels, SHA-256", record.data_sha256["test"]),
    ]
