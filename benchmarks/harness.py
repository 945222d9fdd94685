"""What the benchmarks share: a command line, a JSON record, turns, and commands of `lenet`.

A benchmark is one or more parts: functions that return what they measured, and whose arguments are
the command's flags. Progress goes to standard error, the record to standard output as one line of
JSON, and with `--record` also to `records/benchmarks/`.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import tyro

from lenet.training.finish import environment

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "records" / "benchmarks"
LENET = [sys.executable, "-m", "lenet"]

# Pictures of digits as people make them, which the tests draw too.
sys.path.append(str(ROOT / "tests"))

Part = Callable[..., dict[str, Any]]
T = TypeVar("T")


def main(name: str, *parts: Part) -> None:
    """Run the part that the command line names, and print its record.

    Args:
        name: Of the benchmark and, where it is a single part, of its record; else the part's name
            follows, as in `serve-load`.
        parts: Functions, of which the name is the command and the docstring its help.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--record"]
    if len(parts) == 1:
        found = tyro.cli(parts[0], args=arguments)
    else:
        commands = {part.__name__: part for part in parts}
        found = tyro.extras.subcommand_cli_from_dict(commands, args=arguments)
        name = f"{name}-{arguments[0]}"
    command = shlex.join([f"benchmarks/{Path(sys.argv[0]).name}", *arguments])
    about = {"command": command, "environment": asdict(environment())}
    record = {"benchmark": name, **found, **about}
    if "--record" in sys.argv:
        text = json.dumps(record, indent=1) + "\n"
        (RECORDS / f"{name}.json").write_text(text, encoding="utf-8")
    print(json.dumps(record))


def read_record(name: str) -> Any:
    """Return a record of an earlier run."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def report(*values: object) -> None:
    """Print progress."""
    print(*values, file=sys.stderr, flush=True)


def lenet(*arguments: object) -> Any:
    """Run a command of `lenet` in a process of its own, and return the JSON object it prints."""
    command = [*LENET, *map(str, arguments), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def in_turns(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure each way once a round, so that a busy machine slows all of them alike.

    Args:
        ways: Name to what is measured and returns its figures.
        rounds: How often each takes its turn.

    Returns:
        Each way's figures, one a round.
    """
    found: dict[str, list[T]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        for name, measure in ways.items():
            found[name].append(measure())
            report(f"round {number} of {rounds}: {name}: {found[name][-1]}")
    return found
