"""The tables of docs/lenet5-1998.md."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from lenet.records import read_study_record, summarize
from pages.sources import RECORDS, read_benchmark


def error_row(title: str, paper: str, error: Mapping[str, Any]) -> str:
    """Return a line of errors in %, from a summary of errors in %."""
    return (
        f"| {title} | {paper} | {error['mean']:.2f} | {error['low']:.2f} to {error['high']:.2f} | "
        f"{error['min']:.2f} to {error['max']:.2f} | {error['n']} |"
    )


def paper_table() -> str:
    """The paper's errors beside ours."""
    lines = [
        "| error, % | paper | ours, mean | 95 % interval | min to max | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, figure, title, paper in (
        ("lecun1998", "test_accuracy", "test, 20 passes", "0.95"),
        ("lecun1998", "train_accuracy", "training, 20 passes", "0.35 (19 passes)"),
        ("lecun1998-distorted", "test_accuracy", "test, distorted", "0.8"),
    ):
        record = read_study_record(RECORDS / f"{name}.json")
        errors = [100 * (1 - getattr(run, figure)) for run in record.runs]
        lines.append(error_row(title, paper, asdict(summarize(errors))))
    for study in read_benchmark("lecun1998-sizes")["studies"]:
        paper = {"15000": "1.7", "30000": "1.14"}[study["name"]]
        lines.append(error_row(f"test, {study['title']}", paper, study["test_error"]))
    return "\n".join(lines)


def road_table() -> str:
    """The studies of the road, each a change of the one above."""
    record = read_benchmark("lecun1998-road")
    lines = [
        "| change | test error, % | 95 % interval | training error, % | seconds a run |",
        "| --- | --- | --- | --- | --- |",
    ]
    recipe = record["studies"][0]["recipe"]
    for study in record["studies"]:
        test, train = study["test_error"], study["train_error"]
        lines.append(
            f"| {study['title']} | {test['mean']:.2f} | {test['low']:.2f} to {test['high']:.2f} | "
            f"{train['mean']:.2f} | {study['training_s']['mean']:.0f} |"
        )
    lines += [
        "",
        f"{recipe['num_train']:,} images, {recipe['epochs']} epochs and {test['n']} seeds each, "
        f"`{record['command']}`, {record['environment']['cpu']}, other work on both cores.",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "paper": paper_table,
    "road": road_table,
}
