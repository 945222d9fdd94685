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


DISCIPLINES = {
    "train": "an epoch with its scoring, batch 32",
    "gradients": "gradients alone, batch 64",
    "infer 1": "logits, 1 image at a time",
    "infer 1000": "logits, 1000 at a time",
}


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
        for name in ("default", "fast", "report")
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
    return (
        f"`{record.command}` on {machine['num_cores']} cores ({machine['cpu']}), torch "
        f"{machine['packages']['torch']}, Python {machine['python']}, no GPU; "
        f"a run trained for {seconds.mean:.0f} s, one of `fast` for {fast.mean:.0f} s, on one core "
        f"with another run on the other, and other work on both."
    )


def speed_table() -> str:
    """The contestants of `lenet bench`."""
    record = read_benchmark("bench")
    lines = [
        "| | | images/s (median) | slowest to fastest | native is faster by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for r in record["results"]:
        lines.append(
            f"| {DISCIPLINES[r['discipline']]} | {r['name']} | {r['images_per_s']:,.0f} | "
            f"{r['slowest']:,.0f} to {r['fastest']:,.0f} | {r['ratio']:.1f} |"
        )
    machine = record["environment"]
    lines += [
        "",
        f"{record['num_threads']} threads, {record['rounds']} rounds, {machine['cpu']}, torch "
        f"{machine['packages']['torch']}. A float32 matrix product of 1024 x 1024 ran at "
        f"{record['matrix_gflops']:.0f} GFLOP/s in the same rounds; the gradients at batch 64 at "
        f"{100 * record['share_of_matrix_peak']:.0f} % of that.",
    ]
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
