"""A study against single runs, and a study that is killed against one that is left alone.

Run: `.venv/bin/python benchmarks/study.py time [--seeds 4] [--epochs 3] [--rounds 3] [--into FILE]`
     `.venv/bin/python benchmarks/study.py kill [--seeds 10] [--kills 2]`

`time`: every way of training the same seeds of `default` takes its turn in each round, each in
processes of its own, start-up included; the figure is the ratio to single `lenet train` commands
one after the other, which also write reports, and to single runs without, by the clock and in CPU
time. With `--only` and `--into` the ways can be timed in several sittings. `kill`: `lenet study` is
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

from lenet.files import write_text
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


def compare_times(
    seeds: int, epochs: int, rounds: int, only: list[str], earlier: dict[str, Any]
) -> dict[str, Any]:
    """Time every way in turns, and add the figures to earlier ones of the same ways."""
    ways = ways_of(seeds, ["--epochs", str(epochs)])
    if only:
        ways = {name: commands for name, commands in ways.items() if name in only}
    taken: dict[str, list[dict[str, float]]] = earlier.get("rounds", {})
    for _ in range(rounds):
        for name, commands in ways.items():
            taken.setdefault(name, []).append(time_of(commands))
            print(name, taken[name][-1], file=sys.stderr, flush=True)
    bases = [name for name in taken if name.startswith("single runs")]
    ratios = {
        name: {base: ratio_of(taken[name], taken[base]) for base in bases if base != name}
        for name in taken
    }
    return {"seeds": seeds, "epochs": epochs, "rounds": taken, "ratios": ratios}


def time_of(commands: list[list[str]]) -> dict[str, float]:
    """Run commands one after the other; return what they took, and how busy the machine was."""
    load = os.getloadavg()[0]
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        for i, command in enumerate(commands):
            run(*command, "--out", str(Path(folder) / f"{i}"))
    after = os.times()
    return {
        "seconds": after.elapsed - before.elapsed,
        "cpu_s": after.children_user
        + after.children_system
        - before.children_user
        - before.children_system,
        "load_before": load,
    }


def ratio_of(ours: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, Any]:
    """Return ratios of time, round by round: of the clock's, and of all processes' CPU time."""
    found: dict[str, Any] = {}
    for key in ("seconds", "cpu_s"):
        each = [a[key] / b[key] for a, b in zip(ours, base, strict=False)]
        found[key] = {"median": median(each), "low": min(each), "high": max(each), "n": len(each)}
    return found


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
    parser.add_argument("--into", type=Path, help="a file of `time` that further rounds go into")
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, Any]
    if options.part == "time":
        earlier = {}
        if options.into is not None and options.into.exists():
            earlier = json.loads(options.into.read_text())
        found = compare_times(
            options.seeds or 4, options.epochs, options.rounds, options.only, earlier
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = compare_killed(options.seeds or 10, options.kills, Path(folder))
    result = {"benchmark": "study", "part": options.part, **found, "environment": environment()}
    if options.into is not None:
        write_text(options.into, json.dumps(result) + "\n")
    print(json.dumps(result))
    return 0 if found.get("records_equal", True) else 1


if __name__ == "__main__":
    sys.exit(main())
