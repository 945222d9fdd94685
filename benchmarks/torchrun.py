"""One run under `torchrun` in several ways, against the same run in one process.

Run: `.venv/bin/python benchmarks/torchrun.py [--epochs 3] [--flags ...]`

One process; two processes; two of which one is killed with SIGKILL after the first epoch, under
`--max-restarts`; two network namespaces as two hosts, joined by a pair of virtual interfaces, which
meet over TCP and share no run directory; and these with the second host's process killed. The
namespaces need root and `ip`; without them that part is left out, and the result says so. Compares
test accuracy, logits of the test images and weights. Prints one line of JSON at the end.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lenet.records import environment

HOSTS = {"lenet-a": "10.198.0.1", "lenet-b": "10.198.0.2"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def workers_of(out: Path) -> list[int]:
    """Return the training processes that write to a folder, `torchrun` itself left out."""
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in found.stdout.splitlines() if f"--out {out}" in line]
    return [int(line.split()[0]) for line in lines if "torch.distributed.run" not in line]


def wait_for(path: Path, num_lines: int) -> None:
    """Wait until a file has so many lines."""
    while not path.exists() or len(path.read_text().splitlines()) < num_lines:
        time.sleep(0.1)


def run(commands: list[list[str]], kill: Callable[[], None] | None = None) -> float:
    """Run commands side by side, kill one's worker on the way, and return the seconds they took."""
    started = time.perf_counter()
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    if kill is not None:
        kill()
    for child in children:
        output, _ = child.communicate()
        if child.returncode:
            sys.exit(f"{shlex.join(map(str, child.args))}\n{output}")  # type: ignore[arg-type]
    return time.perf_counter() - started


@contextmanager
def two_hosts() -> Iterator[bool]:
    """Make two network namespaces joined by a pair of interfaces; say whether that is allowed."""
    first, second = HOSTS
    steps = [f"netns add {name}" for name in HOSTS]
    steps += [f"link add {first} netns {first} type veth peer name {second} netns {second}"]
    for name, address in HOSTS.items():
        steps += [f"-n {name} addr add {address}/24 dev {name}", f"-n {name} link set {name} up"]
        steps += [f"-n {name} link set lo up"]
    try:
        try:
            for step in steps:
                subprocess.run(["ip", *step.split()], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no namespaces: {error}", file=sys.stderr)
            yield False
            return
        yield True
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def on_hosts(train: list[str], folder: Path) -> list[list[str]]:
    """Return each host's command; each has an output folder of its own."""
    return [
        [
            *("ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={name}", *TORCHRUN),
            *("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{HOSTS['lenet-a']}:29400"),
            *("--rdzv-id", "lenet", "--local-addr", address),
            # Both have one host name here, by which torchrun would tell who keeps the store.
            *("--rdzv-conf", f"is_host={int(name == 'lenet-a')}"),
            *("-m", "lenet", *train, "--out", str(folder / name)),
        ]
        for name, address in HOSTS.items()
    ]


def compare(out: Path, base: Path) -> dict[str, Any]:
    """Compare a finished run with the base."""
    record = json.loads((out / "record.json").read_text())
    logits, other = (load_file(path / "predictions.safetensors")["logits"] for path in (out, base))
    model, base_model = (load_file(path / "model.safetensors") for path in (out, base))
    return {
        "test_accuracy": record["test_accuracy"],
        "test_loss": record["test_loss"],
        "labels_that_differ": int((logits.argmax(1) != other.argmax(1)).sum()),
        "largest_logit_difference": float((logits - other).abs().max()),
        "largest_weight_difference": max(
            float((weights - base_model[name]).abs().max()) for name, weights in model.items()
        ),
        "num_sessions": record["num_sessions"],
        "device": record["device"],
        "epoch_s": [epoch["duration_s"] for epoch in record["epochs"]],
    }


def main() -> None:
    """Train in every way and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--flags", default="", help="further flags of `lenet train`, in one word")
    options = parser.parse_args()
    train = ["train", "--quiet", "--epochs", str(options.epochs), *shlex.split(options.flags)]
    pair = [*TORCHRUN, "--nproc-per-node", "2", "--max-restarts", "3", "-m", "lenet", *train]
    found: dict[str, Any] = {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)

        def measure(
            name: str, commands: list[list[str]], out: Path, killed: Path | None = None
        ) -> None:
            def kill() -> None:
                wait_for(out / "metrics.jsonl", 1)
                os.kill(max(workers_of(killed or out)), 9)

            seconds = run(commands, kill if killed else None)
            found[name] = {"seconds": seconds, **compare(out, folder / "one")}
            print(name, found[name], file=sys.stderr, flush=True)

        one, two, lost = folder / "one", folder / "two", folder / "lost"
        measure("one process", [[sys.executable, "-m", "lenet", *train, "--out", str(one)]], one)
        measure("two processes", [[*pair, "--out", str(two)]], two)
        measure("two processes, one killed", [[*pair, "--out", str(lost)]], lost, lost)
        models = [(path / "model.safetensors").read_bytes() for path in (two, lost)]
        found["killed equals not killed"] = models[0] == models[1]
        with two_hosts() as allowed:
            found["namespaces allowed"] = allowed
            for name in ("two hosts", "two hosts, one's process killed") if allowed else ():
                place = folder / name.replace(" ", "-")
                a, b = (place / host for host in HOSTS)
                measure(name, on_hosts(train, place), a, b if "killed" in name else None)
                found[name]["second host's run directory"] = b.exists()
    result = {"benchmark": "torchrun", "epochs": options.epochs, "flags": options.flags, **found}
    print(json.dumps({**result, "environment": environment()}))


if __name__ == "__main__":
    main()
