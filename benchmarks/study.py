"""A study against single runs, and a study that is killed against one that is left alone.

Run: `.venv/bin/python benchmarks/study.py time [--seeds 4] [--epochs 3] [--rounds 3]`
     `.venv/bin/python benchmarks/study.py kill [--seeds 10] [--kills 2]`

`time`: every way of training the same seeds of `default` takes its turn in each round, each in
processes of its own, start-up included; the figure is the ratio to single `lenet train` commands
one after the other, which also write reports, and to single runs without. `kill`: `lenet study` is
killed with SIGKILL as often as asked at even shares of its way, and resumed; its record must equal
that of a study left alone in everything but times, its model files byte for byte. Prints one line
of JSON at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from lenet.records import environment

LENET = [sys.executable, "-m", "lenet"]


def run(*arguments: str) -> None:
    """Run a command of lenet to its end."""
    subprocess.run([*LENET, *arguments], check=True, capture_output=True)


def ways_of(seeds: int, settings: list[str]) -> dict[str, list[list[str]]]:
    """Return the commands of each way, to be run one after the other, without their `--out`."""
    study = ["study", "--quiet", *settings, "--seeds"]
    ways = {
        "single runs, with reports": [
            ["train", "--quiet", *settings, "--seed", str(seed)] for seed in range(seeds)
        ],
        "single runs, without": [[*study, "1", "--first-seed", str(seed)] for seed in range(seeds)],
        "study": [[*study, str(seeds)]],
    }
    for jobs in range(1, 2 * (os.cpu_count() or 1)):
        ways[f"study --jobs {jobs}"] = [[*study, str(seeds), "--jobs", str(jobs)]]
    return ways


def compare_times(seeds: int, epochs: int, rounds: int, only: list[str]) -> dict[str, Any]:
    """Time every way in turns."""
    ways = ways_of(seeds, ["--epochs", str(epochs)])
    if only:
        ways = {name: commands for name, commands in ways.items() if name in only}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, commands in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                for i, command in enumerate(commands):
                    run(*command, "--out", str(Path(folder) / f"{i}"))
                seconds[name].append(time.perf_counter() - started)
            print(name, f"{seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    ratios = {
        name: {
            base: median(a / b for a, b in zip(taken, seconds[base], strict=True))
            for base in ("single runs, with reports", "single runs, without")
            if base in seconds
        }
        for name, taken in seconds.items()
    }
    return {"seeds": seeds, "epochs": epochs, "seconds": seconds, "ratios": ratios}


def figures(study: Path) -> Any:
    """Return a study's record without its times and without where they were taken."""
    record = json.loads((study / "study.json").read_text())
    for name in ("environment", "command"):
        del record[name]
    del record["summary"]["training_s"]
    for each in record["runs"]:
        del each["training_s"]
    return record


def num_epochs(study: Path) -> int:
    """Return how many epochs of a study are on the disk."""
    return sum(len(path.read_text().splitlines()) for path in study.glob("seed-*/metrics.jsonl"))


def compare_killed(seeds: int, kills: int, folder: Path) -> dict[str, Any]:
    """Kill a study, and compare it with one that is not."""
    whole, killed = folder / "whole", folder / "killed"
    command = [*LENET, "study", "default", "--seeds", str(seeds), "--quiet", "--out"]
    log = []
    for kill in range(kills):
        child = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL)
        while num_epochs(killed) < (kill + 1) * seeds * 15 // (kills + 1):
            time.sleep(0.2)
        child.kill()
        child.wait()
        finished = len(list(killed.glob("seed-*/record.json")))
        log.append({"epochs_done": num_epochs(killed), "seeds_finished": finished})
        print(f"killed: {log[-1]}", file=sys.stderr, flush=True)
    for path in (killed, whole):
        subprocess.run([*command, str(path)], check=True, stdout=subprocess.DEVNULL)
    models = [f"seed-{seed}/model.safetensors" for seed in range(seeds)]
    return {
        "seeds": seeds,
        "kills": log,
        "records_equal": figures(killed) == figures(whole),
        "model_files_equal": sum(
            (whole / model).read_bytes() == (killed / model).read_bytes() for model in models
        ),
        "test_accuracy": figures(whole)["summary"]["test_accuracy"],
    }


def main() -> int:
    """Run a part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("time", "kill"))
    parser.add_argument("--seeds", type=int, default=0, help="0: 4 for time, 10 for kill")
    parser.add_argument("--epochs", type=int, default=3, help="of each timed run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="a way to be timed")
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, Any]
    if options.part == "time":
        found = compare_times(options.seeds or 4, options.epochs, options.rounds, options.only)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = compare_killed(options.seeds or 10, options.kills, Path(folder))
    result = {"benchmark": "study", "part": options.part, **found, "environment": environment()}
    print(json.dumps(result))
    return 0 if found.get("records_equal", True) else 1


if __name__ == "__main__":
    sys.exit(main())
