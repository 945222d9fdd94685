"""Every benchmark runs, at its smallest, on the real digits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

SMALL = {
    "export": ("--epochs", "1", "--min-agreement", "0.9"),
    "lecun1998-road": ("--seeds", "1", "--epochs", "1", "--num-train", "100"),
    "reading": (
        "--num-strings",
        "1",
        "--num-scenes",
        "1",
        "--num-non-digits",
        "1",
        "--figures",
        ".",
    ),
    "serve-drain": ("--times", "2"),
    "speed-accuracy": ("--seeds", "1", "--notebook-epochs", "1", "--notebook-images", "6000"),
    "speed-engines": ("--num-images", "64", "--rounds", "1"),
}
# The rest of serve.py takes minutes or more packages.

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    script, _, part = name.partition("-")
    flags = [*filter(None, [part]), *SMALL[name]]
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *flags]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert json.loads(found.stdout)["benchmark"] == name
