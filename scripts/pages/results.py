"""The tables of docs/results.md, and the README's table of results."""

from collections.abc import Callable

from lenet.data.label_errors import MNIST_TEST_ERRORS
from lenet.recipes import RECIPES, from_dict
from lenet.records import read_study_record, summarize
from lenet.report import ORIGINALS
from lenet.schema import StudyRecord, Summary
from lenet.training import build_model
from pages.sources import RECORDS, percent, read_benchmark

PUBLISHED = {
    "default": "98.89, one run (the report)",
    "report": "98.89, one run (the report); 98.72, one run (the notebook)",
    "fast": "99.04 over 30 seeds, 215,194 parameters, 1 epoch (train_mnist_fast)",
    "lecun1998": "99.05 (the paper)",
    "lecun1998-distorted": "99.2 (the paper)",
    "best": "99.26 over 5 seeds (mnist), 99.58 once (BitNetMCU); both chosen on the test images",
}
"""Test accuracies in %, as their sources give them; docs/results.md says where those are."""


def published_studies() -> dict[str, StudyRecord]:
    """Return the record of each recipe that has one."""
    paths = {name: RECORDS / f"{name}.json" for name in RECIPES}
    return {name: read_study_record(path) for name, path in paths.items() if path.is_file()}


def interval(summary: Summary) -> str:
    """Return the 95 % interval of a share's mean, where there is one."""
    return "-" if summary.n == 1 else " to ".join(map(percent, summary.interval))


def images_of(record: StudyRecord) -> Summary:
    """Return a study's summary over test images."""
    assert record.test_images is not None, record.recipe_name
    return record.test_images


def accuracy_without_errors(record: StudyRecord) -> Summary:
    """Summarize accuracy on the test images whose labels nobody doubts."""
    doubted = {error.image for error in MNIST_TEST_ERRORS}
    wrong = [set(run.test_wrong or ()) - doubted for run in record.runs]
    return summarize([1 - len(places) / (10_000 - len(doubted)) for places in wrong])


def study_row(name: str, record: StudyRecord) -> str:
    """Return a study's line of the results table."""
    train, test = record.summary["train_accuracy"], record.summary["test_accuracy"]
    return (
        f"| `{name}` | {test.n} | {percent(train.mean)} | {percent(test.mean)} | "
        f"{interval(test)} | {percent(test.std)} | "
        f"{percent(test.min)} to {percent(test.max)} | "
        f"[record](records/{name}.json) |"
    )


def results_table() -> str:
    """Every study beside the figures it is compared with."""
    lines = [
        "| recipe | seeds | training accuracy, % | test accuracy, % | 95 % interval of the mean | "
        "sd | min to max | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        study_row(name, read_study_record(RECORDS / f"{name}.json"))
        for name in ("best", "default", "fast", "report", "lecun1998", "lecun1998-distorted")
        if (RECORDS / f"{name}.json").is_file()
    ]
    for title, train, test in ORIGINALS:
        lines.append(f"| {title} | 1 | {train[:5]} | {test[:5]} | - | - | - | |")
    return "\n".join(lines)


def machine_line() -> str:
    """Say on what the studies ran."""
    record = read_study_record(RECORDS / "default.json")
    machine = record.environment
    seconds = record.summary["training_s"]
    fast = read_study_record(RECORDS / "fast.json").summary["training_s"]
    idle = read_benchmark("time_to_accuracy")["summary"][-1]["seconds"]
    return (
        f"`{record.command}` on {machine.num_cores} cores ({machine.cpu}), torch "
        f"{machine.packages['torch']}, Python {machine.python}, no GPU; "
        f"a run trained for {seconds.mean:.0f} s, one of `fast` for {fast.mean:.0f} s, on one "
        f"thread of a busy machine. Idle, with both cores, `fast` takes {idle:.1f} s."
    )


def accuracies_table() -> str:
    """Every recipe's accuracy, with and without the doubtful labels."""
    lines = [
        "| recipe | parameters | seeds | test accuracy, % | 95 % interval over seeds | "
        f"over images | sd | without the {len(MNIST_TEST_ERRORS)}, % | 95 % interval over seeds | "
        "published, % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, record in published_studies().items():
        test, cleaned = record.summary["test_accuracy"], accuracy_without_errors(record)
        model = build_model(from_dict(record.recipe, source=name), 0)
        lines.append(
            f"| `{name}` | {sum(p.numel() for p in model.parameters()):,} | {test.n} | "
            f"{percent(test.mean)} | {interval(test)} | {interval(images_of(record))} | "
            f"{percent(test.std) if test.n > 1 else '-'} | {percent(cleaned.mean)} | "
            f"{interval(cleaned)} | {PUBLISHED.get(name, '-')} |"
        )
    return "\n".join(lines)


def making_table() -> str:
    """How each recipe's record was made."""
    lines = [
        "| recipe | command | seconds a run, mean (min to max) | machine | commit | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, record in published_studies().items():
        machine, seconds = record.environment, record.summary["training_s"]
        lines.append(
            f"| `{name}` | `{record.command}` | {seconds.mean:.0f} ({seconds.min:.0f} to "
            f"{seconds.max:.0f}) | {machine.num_cores} cores, {machine.cpu}, torch "
            f"{machine.packages['torch']} | {(machine.commit or '')[:7]} | "
            f"[record](../records/{name}.json) |"
        )
    return "\n".join(lines)


def label_errors_table() -> str:
    """The doubtful labels, and how many runs of each recipe read them as labelled."""
    studies = published_studies()
    names = " | ".join(f"`{name}`" for name in studies)
    lines = [
        f"| test image | label | or | votes: label, or, neither | {names} |",
        "| --- | --- | --- | --- |" + " --- |" * len(studies),
    ]
    for error in MNIST_TEST_ERRORS:
        agree = (
            f"{sum(error.image not in (run.test_wrong or ()) for run in record.runs)} of "
            f"{len(record.runs)}"
            for record in studies.values()
        )
        lines.append(
            f"| {error.image} | {error.label} | {error.other} | {error.votes_label}, "
            f"{error.votes_other}, {error.votes_neither} | {' | '.join(agree)} |"
        )
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "results": results_table,
    "accuracies": accuracies_table,
    "making": making_table,
    "label_errors": label_errors_table,
    "machine": machine_line,
}
