"""The verbs about a trained model: `evaluate` and `export`.

stdout holds the result, stderr everything else. What a verb needs is imported inside it.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from lenet.cli.options import DataDirOption, DeviceOption, EngineOption, Split, parse
from lenet.errors import RecipeError
from lenet.schema import to_json

if TYPE_CHECKING:
    from torch import Tensor

    from lenet.data.digits import Digits
    from lenet.models import Network
    from lenet.schema import ModelCard, Scores


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Score a run or a model file on a split, or on your own pictures.

    Examples:
      lenet evaluate runs/default-seed0
      lenet evaluate pretrained --images my-digits/    # a subfolder for each label
      lenet evaluate model.safetensors --split train --json
    """

    model: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN|MODEL")]
    """Run directory, a model file that lenet wrote, or `pretrained`, the package's own."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="DIR|CSV")] = None
    """Pictures in a subfolder for each label, or a CSV with columns path and label."""
    split: Split = "test"
    """Which images; val is the part that the run cut from its training images."""
    device: DeviceOption = "auto"
    engine: EngineOption = "auto"
    data_dir: DataDirOption = None
    json: bool = False
    """Print the scores as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a model in another format, compared with its source before it is kept.

    Examples:
      lenet export runs/default-seed0 --to onnx
      lenet export runs/default-seed0 --to c --c-type int8 --out firmware/digits.c
      lenet export runs/default-seed0 --to html --with-1998 runs/lecun1998-seed0
      lenet export pretrained --to html --train 60000 --out lenet.html
      lenet export model.safetensors --to triton --out models --json
      lenet export pretrained --to hub --out my-lenet

    A JSON file beside the export says what was measured.
    """

    model: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN|MODEL")]
    """Run directory, a model file that lenet wrote, or `pretrained`: that of the package."""
    to: Literal["onnx", "torch", "int8", "html", "c", "triton", "hub"]
    """ONNX, a torch.export program, ONNX in 8 bits, a page to draw on that shows each layer, C99
    source, a model repository for Triton, or a folder for the Hugging Face Hub."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: beside the model file)"),
    ] = None
    """File to write; for triton and hub a folder."""
    overwrite: bool = False
    """Replace an earlier export."""
    c_type: Literal["float", "int8"] = "float"
    """Numbers that C code computes with."""
    opset: int = 18
    """Version of the ONNX operators, for onnx and triton: an older one for an older runtime."""
    min_agreement: float = 0.999
    """Labels that an export in 8 bits must share with its source on the test images, 0 to 1; its
    accuracy may differ by half of the rest to 1."""
    with_1998: Annotated[Path | None, tyro.conf.arg(metavar="RUN|MODEL")] = None
    """For html: a run of the paper's network (`lenet train lecun1998`), shown beside the first."""
    train: int = 0
    """For html: training images that the page holds, to train a network on in the browser."""
    data_dir: DataDirOption = None
    json: bool = False
    """Print the export's record as one JSON object."""


def evaluate(arguments: Sequence[str]) -> int:
    """Score a model."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    from lenet.reading.reader import named_model

    with named_model(options.model) as model:
        if options.images is not None:
            return _evaluate_pictures(model, options.images, as_json=options.json)
        scores = _evaluate(options, model)
    if options.json:
        print(to_json(scores))
        return 0
    print(
        f"{scores.split} accuracy {scores.accuracy:.2%} "
        f"(95 % interval {scores.accuracy_low:.2%} to {scores.accuracy_high:.2%}), "
        f"{scores.num_images - scores.num_correct:,} of {scores.num_images:,} wrong, "
        f"loss {scores.loss:.4f}"
    )
    return 0


def _evaluate_pictures(model: Path, images: Path, *, as_json: bool) -> int:
    """Score a model on a person's own pictures; one that can't be read counts as wrong."""
    from lenet.errors import PictureError
    from lenet.reading.labelled import find_labelled
    from lenet.reading.reader import Reader
    from lenet.results.scores import wilson_interval

    reader = Reader.from_model(model)
    labelled = find_labelled(images, reader.classes)
    wrong, unreadable = [], 0
    for path, label in labelled:
        try:
            found = reader.read_digit(path).label
        except PictureError as error:
            print(f"error: {ascii(str(path))[1:-1]}: {error}", file=sys.stderr)
            found, unreadable = None, unreadable + 1
        if found != label:
            wrong.append({"path": str(path), "label": label, "read": found})
    num_correct = len(labelled) - len(wrong)
    low, high = wilson_interval(num_correct, len(labelled))
    accuracy = num_correct / len(labelled)
    if as_json:
        result = {
            "num_images": len(labelled),
            "num_correct": num_correct,
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "num_unreadable": unreadable,
            "wrong": wrong,
        }
        print(to_json(result))
    else:
        for row in wrong:
            read = row["read"] or "no digit"
            print(f"{row['label']} read as {read}   {ascii(row['path'])[1:-1]}")
        print(
            f"accuracy {accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), "
            f"{len(wrong):,} of {len(labelled):,} wrong"
        )
    return 1 if unreadable else 0


def _evaluate(options: EvaluateOptions, model_path: Path) -> "Scores":
    import torch
    from rich.console import Console

    from lenet.cli.console import DownloadBar
    from lenet.data.digits import load
    from lenet.models.files import load_model
    from lenet.parallel import num_cores
    from lenet.results.scores import evaluate as evaluate_model
    from lenet.training.loop import choose_device

    model, card = load_model(model_path)
    device = choose_device(options.device)
    # As a run scores itself, so that the figures are the same to the last digit.
    torch.set_num_threads(1)
    progress = DownloadBar(Console(stderr=True))
    where: dict[str, Any] = {"data_dir": options.data_dir, "progress": progress}
    if options.split == "test":
        digits = load(card.dataset, "test", **where)
    else:
        digits = _training_split(options, card, where)
    progress.close()
    model = model.to(device)
    return evaluate_model(
        _logits_function(model, options.engine, num_cores()),
        digits.images,
        digits.labels,
        split=options.split,
        device=device,
        takes_bytes=True,
    )


def _logits_function(
    model: "Network", engine: str, num_threads: int
) -> "Callable[[Tensor], Tensor]":
    """Return what computes a model's logits (B, n) of images (B, 28, 28) uint8."""
    from lenet.native.build import NativeUnavailableError
    from lenet.native.engine import load_engine
    from lenet.training.learners import explain_unavailable, forward, wants_native

    if wants_native(engine, model):
        try:
            return load_engine(model, num_threads=num_threads).logits
        except NativeUnavailableError as error:
            explain_unavailable(engine, error)
    return lambda images: forward(model, images)


def _training_split(options: EvaluateOptions, card: "ModelCard", where: Any) -> "Digits":
    """Return the images that a model's run trained on, or those that it held out."""
    from lenet.data.digits import load
    from lenet.training.loop import cut_splits, load_splits
    from lenet.training.recipe import from_dict
    from lenet.training.run import RECIPE_FILE, open_run

    model = options.model
    folder = model if model.is_dir() else model.parent
    if (folder / RECIPE_FILE).is_file():
        splits = load_splits(open_run(folder), **where)
        train, val = splits.train, splits.val
    elif card.images is not None:
        raise RecipeError(
            f"{model}: was trained on {card.images} too, which are in its run directory: name that"
        )
    else:
        data = load(card.dataset, "train", **where)
        train, val = cut_splits(from_dict(card.recipe, source=str(model)), data)
    if options.split == "train":
        return train
    if val is None:
        raise RecipeError(f"{model}: trained on all images, so it has no val split")
    return val


def export(arguments: Sequence[str]) -> int:
    """Write a model in another format."""
    options = parse(ExportOptions, "export", arguments)
    import torch
    from rich.console import Console

    from lenet.cli.console import DownloadBar
    from lenet.export import FORMATS, Settings, export_model
    from lenet.export.html_page import NOT_RUN
    from lenet.reading.reader import pretrained_model

    torch.set_num_threads(1)  # as a run scores itself
    progress = DownloadBar(Console(stderr=True))
    with ExitStack() as stack:
        model, out = options.model, options.out
        if str(model) == "pretrained" and not model.exists():
            model = stack.enter_context(pretrained_model())
            # Not beside the model: that is in the package.
            out = out or Path(FORMATS[options.to].default_name)
        record = export_model(
            model,
            options.to,
            out=out,
            overwrite=options.overwrite,
            settings=Settings(
                c_type=options.c_type,
                opset=options.opset,
                min_agreement=options.min_agreement,
                with_1998=options.with_1998,
                train=options.train,
            ),
            data_dir=options.data_dir,
            progress=progress,
        )
    progress.close()
    if options.json:
        print(to_json(record))
        return 0
    parity = record.parity
    print(f"{record.path}   {record.num_bytes:,} bytes")
    print(
        f"{parity.num_images - parity.num_labels_differ:,} of {parity.num_images:,} labels are the "
        f"source's, logits differ by up to {parity.largest_logit_difference:.2g} "
        f"of {parity.largest_logit:.3g}, test accuracy {parity.accuracy:.2%}"
    )
    if options.to == "html" and record.details["run_in"] is None:
        print(f"note: {NOT_RUN}: these figures are of the model file inside")
    return 0
