"""What a finished run leaves: its model, its predictions on the test images, and its record."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from safetensors.torch import save_file
from torch import Tensor

from lenet import __version__
from lenet.data.digits import Digits
from lenet.files import replacing
from lenet.models import Network
from lenet.models.files import MODEL_FILE, save_model
from lenet.results.records import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    command_line,
    environment,
    write_record,
)
from lenet.results.scores import fit_temperature, score_logits
from lenet.schema import CardScores, EpochScores, ModelCard, RunRecord, Scores
from lenet.training.own import start_temperature
from lenet.training.run import Run

MIN_CALIBRATION = 1000
"""Images that a temperature is fitted on, at least: on 20, it can be off by a factor of 9."""


def write_results(
    run: Run,
    model: Network,
    splits: Sequence[Digits],
    epochs: Sequence[EpochScores],
    *,
    calibration: Digits | None,
    logits_of: Callable[[Tensor], Tensor],
    earlier_s: float,
    num_sessions: int,
    device: str,
    engine: str,
    data_sha256: dict[str, str],
) -> RunRecord:
    """Score a finished model, once, and write its files; the record comes last.

    Args:
        run: Where to.
        model: What was trained.
        splits: What to score, the test images last.
        epochs: What was measured on the way.
        calibration: Images to fit the temperature on, which were not trained on.
        logits_of: (N, 28, 28) uint8 to (N, num_classes) float32 on the CPU.
        earlier_s: What the training of its teachers took.
        num_sessions: How many processes had a part in it.
        device: For people.
        engine: "native" or "torch".
        data_sha256: By split.
    """
    scores: dict[str, Scores] = {}
    # The test images calibrate nothing, and neither does a handful of pictures: without enough
    # others, the temperature stays that of the model the run began with.
    temperature = start_temperature(run)
    if calibration is not None and len(calibration) >= MIN_CALIBRATION:
        temperature = fit_temperature(logits_of(calibration.images), calibration.labels)
    for digits in splits:
        logits = logits_of(digits.images)
        scores[digits.split] = score_logits(logits, digits.labels, split=digits.split)
    # The test split came last: these are its logits.
    wrong = (logits.argmax(1) != splits[-1].labels).nonzero().flatten().tolist()
    with replacing(run.path / PREDICTIONS_FILE) as temporary:
        save_file({"logits": logits, "labels": splits[-1].labels}, temporary)
    accuracies = {f"{split}_accuracy": score.accuracy for split, score in scores.items()}
    figures = CardScores(**accuracies, temperature=temperature)
    card = _card(run, model, splits[0].classes, len(epochs), figures)
    save_model(run.path / MODEL_FILE, model, card)
    val = scores.get("val")
    record = RunRecord(
        recipe_name=run.recipe_name,
        recipe=asdict(run.recipe),
        seed=run.seed,
        train_accuracy=scores["train"].accuracy,
        train_loss=scores["train"].loss,
        test_accuracy=scores["test"].accuracy,
        test_loss=scores["test"].loss,
        val_accuracy=None if val is None else val.accuracy,
        val_loss=None if val is None else val.loss,
        num_parameters=sum(p.numel() for p in model.parameters()),
        num_train_images=len(splits[0]),
        epochs=tuple(epochs),
        scores=scores,
        training_s=earlier_s + sum(epoch.duration_s for epoch in epochs),
        num_sessions=num_sessions,
        device=device,
        engine=engine,
        data_sha256=data_sha256,
        environment=environment(),
        command=command_line(),
        test_wrong=tuple(wrong),
        images=run.images,
        start=run.start,
    )
    write_record(run.path / RECORD_FILE, record)
    return record


def _card(
    run: Run, model: Network, classes: tuple[str, ...], num_epochs: int, figures: CardScores
) -> ModelCard:
    return ModelCard(
        model=run.recipe.model,
        config=model.config(),
        classes=classes,
        dataset=run.recipe.dataset,
        recipe_name=run.recipe_name,
        recipe=asdict(run.recipe),
        seed=run.seed,
        epochs=num_epochs,
        images=run.images,
        scores=figures,
        lenet_version=__version__,
    )
