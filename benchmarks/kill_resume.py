"""Kill `lenet train` at random moments and resume it; compare with a run that was left alone.

Run: `.venv/bin/python benchmarks/kill_resume.py [--kills 20] [--epochs 40] [--seed 0]`

Two runs of the same recipe and seed on the real digits, each with a cache of its own, so that the
first kills may fall into the download and the compiling; --share-kernels spares the latter. One is
left alone; the other is killed with SIGKILL after a random time, resumed, killed, and so on, and a
few times interrupted with SIGINT (Ctrl-C) instead. At the end their model files must be equal byte
for byte. Prints each kill, then one line of JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lenet.native import build
from lenet.records import environment


def start(out: Path, cache: Path, epochs: int, resume: bool) -> subprocess.Popen[bytes]:
    """Start or resume a run."""
    command = [sys.executable, "-m", "lenet", "train", "--out", str(out), "--quiet"]
    command += ["--resume"] if resume else ["--epochs", str(epochs), "--batch-size", "256"]
    return subprocess.Popen(
        command,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def epochs_done(out: Path) -> int:
    """Return how many epochs are safe on the disk."""
    try:
        return len((out / "metrics.jsonl").read_text().splitlines())
    except OSError:
        return 0


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of the moments, not of the run")
    parser.add_argument("--share-kernels", action="store_true", help="those compiled already")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        whole, killed = folder / "whole", folder / "killed"
        if options.share_kernels:
            for name in ("cache-1", "cache-2"):
                (folder / name / "lenet").mkdir(parents=True)
                (folder / name / "lenet" / "native").symlink_to(build().parent)
        started = time.perf_counter()
        if start(whole, folder / "cache-1", options.epochs, resume=False).wait():
            sys.exit("the uninterrupted run failed")
        length = time.perf_counter() - started
        # Epochs take what start-up leaves; each session gets through two twentieths at most.
        record = json.loads((whole / "record.json").read_text())
        start_up = length - record["training_s"]
        share = 2 * record["training_s"] / options.kills
        log = []
        for kill in range(options.kills):
            child = start(
                killed, folder / "cache-2", options.epochs, (killed / "recipe.json").exists()
            )
            # The first few fall into start-up and download, the others into training.
            wait_s = moments.uniform(0, start_up)
            if kill >= options.kills // 5:
                wait_s = start_up / 2 + moments.uniform(0, share)
            name = "SIGINT" if kill % 5 == 4 else "SIGKILL"
            try:
                child.wait(wait_s)
                ended = "finished"
            except subprocess.TimeoutExpired:
                child.send_signal(signal.Signals[name])
                ended = name
            _, errors = child.communicate()
            log.append(
                {
                    "after_s": round(wait_s, 2),
                    "ended": ended,
                    "status": child.returncode,
                    "epochs_done": epochs_done(killed),
                }
            )
            print(log[-1], flush=True)
            if ended == "finished" and child.returncode:
                sys.exit(errors.decode())
        child = start(killed, folder / "cache-2", options.epochs, (killed / "recipe.json").exists())
        _, errors = child.communicate()
        if child.returncode:
            sys.exit(errors.decode())
        model = "model.safetensors"
        equal = (whole / model).read_bytes() == (killed / model).read_bytes()
        leftovers = [p.name for p in killed.rglob("*.tmp")]
    print(
        json.dumps(
            {
                "benchmark": "kill_resume",
                "epochs": options.epochs,
                "kills": log,
                "model_files_equal": equal,
                "files_left_over": leftovers,
                "environment": environment(),
            }
        )
    )
    return 0 if equal and not leftovers else 1


if __name__ == "__main__":
    sys.exit(main())
