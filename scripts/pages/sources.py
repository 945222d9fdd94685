"""The committed records that tables are made from."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDS = ROOT / "records"


def percent(share: float) -> str:
    """Return a share as the README writes it."""
    return f"{100 * share:.2f}"


def read_benchmark(name: str) -> Any:
    """Return the committed result of a benchmark."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
