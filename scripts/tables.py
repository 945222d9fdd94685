"""Write the tables of README.md and docs from `records/`.

Run: `.venv/bin/python scripts/tables.py [--check]`. Each table stands between the comments
`<!-- table NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit status is 1
if a table differs from its records; a test does the same.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lenet.records import StudyRecord, read_study_record
from lenet.report import ORIGINALS

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "records"
PAGES = ("README.md", "docs/decisions.md", "benchmarks/README.md")


def percent(share: float) -> str:
    """Return a share as the README writes it."""
    return f"{100 * share:.2f}"


def study_row(name: str, record: StudyRecord) -> str:
    """Return a study's line of the results table."""
    train, test = record.summary["train_accuracy"], record.summary["test_accuracy"]
    return (
        f"| `{name}` | {test.n} | {percent(train.mean)} | {percent(test.mean)} | "
        f"{percent(test.low)} to {percent(test.high)} | {percent(test.std)} | "
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
        for name in ("default", "report")
    ]
    for title, train, test in ORIGINALS:
        lines.append(f"| {title} | 1 | {train[:5]} | {test[:5]} | - | - | - | |")
    return "\n".join(lines)


def machine_line() -> str:
    """Say on what the studies ran."""
    record = read_study_record(RECORDS / "default.json")
    machine = record.environment
    seconds = record.summary["training_s"]
    return (
        f"`{record.command}` on {machine['num_cores']} cores ({machine['cpu']}), torch "
        f"{machine['packages']['torch']}, Python {machine['python']}, no GPU; "
        f"a run trained for {seconds.mean:.0f} s on one core with another run on the other."
    )


def speed_table() -> str:
    """An epoch our way and the notebook's."""
    record = read_benchmark("notebook_ratio")
    lines = ["| an epoch of MNIST | median, s | ratio |", "| --- | --- | --- |"]
    for name, values in record["seconds"].items():
        middle = sorted(values)[len(values) // 2]
        lines.append(f"| {name} | {middle:.1f} | {record['ratios'][name]:.1f} |")
    return "\n".join(lines)


def read_benchmark(name: str) -> Any:
    """Return the committed result of a benchmark."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


TABLES: dict[str, Callable[[], str]] = {
    "results": results_table,
    "machine": machine_line,
    "speed": speed_table,
}


def fill(text: str) -> str:
    """Return a page with its tables made again."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write or check every page."""
    stale = 0
    for page in PAGES:
        path = ROOT / page
        before = path.read_text(encoding="utf-8")
        after = fill(before)
        if after == before:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"{page}: a table differs from its records; run scripts/tables.py")
        else:
            path.write_text(after, encoding="utf-8")
            print(f"{page}: written")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
