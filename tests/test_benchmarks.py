"""Every benchmark runs, at its smallest, on the real digits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lenet.export.browser import find_browsers

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

SMALL = {
    "engines.py": ("--seeds", "1"),
    "growth.py": ("--rounds", "1", "--images", "640", "--batch-sizes", "64"),
    "kill_resume.py": ("--kills", "2", "--epochs", "2", "--share-kernels"),
    "lecun1998.py": ("road", "--seeds", "1", "--epochs", "1", "--num-train", "500", "--here"),
    "page.py": ("--scenes", "1", "--strokes", "1"),
    "step.py": ("--rounds", "1"),
    "study.py": ("time", "--seeds", "2", "--epochs", "1", "--rounds", "1", "--only", "study"),
    "time_to_accuracy.py": ("--seeds", "1", "--notebook-epochs", "1", "--images", "6000"),
}
# These take minutes, need more packages, or write the figures of the docs: only what they wrote is
# checked, in test_docs.py. serve_*.py are parts of serve.py, hostile_*.py of pictures.py.
BY_HAND = {"callgrind.py", "cluster.py", "export.py", "pictures.py", "reading.py", "torchrun.py"}

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    if name == "page.py" and not find_browsers():
        pytest.skip("there is no Chromium")
    found = subprocess.run(
        [sys.executable, BENCHMARKS / name, *SMALL[name]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    last = json.loads(found.stdout.splitlines()[-1])
    assert last["benchmark"] == name.removesuffix(".py")


def test_no_benchmark_is_forgotten() -> None:
    parts = ("serve", "hostile")
    found = {path.name for path in BENCHMARKS.glob("*.py") if not path.name.startswith(parts)}
    assert found == {*SMALL, *BY_HAND}
