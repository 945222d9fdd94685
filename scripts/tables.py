"""Write the tables of README.md and docs from `records/`.

Run: `.venv/bin/python scripts/tables.py [--check]`. What stands between the comments
`<!-- table NAME -->` and `<!-- end -->` is made from the template `tables/NAME.md.j2` beside this
script. With --check nothing is written, and the exit status is 1 if a table differs from its
records; a test does the same.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from statistics import mean, median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lenet.data.label_errors import MNIST_TEST_ERRORS
from lenet.models import build_network
from lenet.results.report import ORIGINALS
from lenet.results.statistics import summarize
from lenet.schema import StudyRecord, Summary, read
from lenet.training.recipe import RECIPES, Recipe

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "records"


def benchmark(name: str) -> Any:
    """Return the record of a benchmark."""
    return json.loads((RECORDS / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def study(name: str) -> StudyRecord:
    """Return the record of a recipe."""
    return read(RECORDS / f"{name}.json", StudyRecord)


def error(record: StudyRecord, figure: str) -> dict[str, Any]:
    """Return the summary over seeds of the error in %, from an accuracy."""
    return asdict(summarize([100 * (1 - getattr(run, figure)) for run in record.runs]))


def accuracy_without_errors(record: StudyRecord) -> Summary:
    """Return the summary over seeds of accuracy on test images whose labels nobody doubts."""
    doubted = {error.image for error in MNIST_TEST_ERRORS}
    wrong = [set(run.test_wrong or ()) - doubted for run in record.runs]
    return summarize([1 - len(images) / (10_000 - len(doubted)) for images in wrong])


def num_agreeing(record: StudyRecord, image: int) -> int:
    """Return how many runs read a test image as it is labelled."""
    return sum(image not in (run.test_wrong or ()) for run in record.runs)


def num_parameters(record: StudyRecord) -> int:
    """Return the number of a recipe's weights."""
    # A record of an earlier version may have more fields.
    known = {f.name for f in fields(Recipe)}
    values: dict[str, Any] = {k: v for k, v in record.recipe.items() if k in known}
    recipe = Recipe(**values)
    return sum(p.numel() for p in build_network(recipe, 0).parameters())


def make_environment() -> Environment:
    """Return what the templates may use."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "tables"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value, form: format(value, form),
        "percent": lambda share: f"{100 * share:.2f}",
    }
    environment.globals |= {
        "accuracy_without_errors": accuracy_without_errors,
        "benchmark": benchmark,
        "error": error,
        "label_errors": MNIST_TEST_ERRORS,
        "mean": mean,
        "median": median,
        "num_agreeing": num_agreeing,
        "num_parameters": num_parameters,
        "originals": ORIGINALS,
        "studies": {name: study(name) for name in RECIPES},
        "summarize": summarize,
    }
    return environment


def fill(page: str, environment: Environment) -> str:
    """Return a page with its tables made again."""

    def table(match: re.Match[str]) -> str:
        text = environment.get_template(f"{match[1]}.md.j2").render()
        return f"<!-- table {match[1]} -->\n{text.strip()}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Yield each page of which a table differs from its records, and what it should be."""
    environment = make_environment()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        before = path.read_text(encoding="utf-8")
        after = fill(before, environment)
        if after != before:
            yield path, after


def main(arguments: list[str]) -> int:
    """Write or check every page."""
    stale = dict(stale_pages())
    for path, text in stale.items():
        if "--check" in arguments:
            print(f"{path.name}: a table differs from its records; run scripts/tables.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: written")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
