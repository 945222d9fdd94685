"""Make `.venv` with the package in it; called by the other scripts, which say with what extras.

Run: `python3 scripts/setup.py [EXTRA...]`. Prints what it does to stderr. It may be run again at
any time, also after a try that broke off: a file in `.venv` says what has been installed whole.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts" if sys.platform == "win32" else "bin") / "python"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main(extras: list[str]) -> None:
    """Install what is missing, one process at a time."""
    lock = (ROOT / ".venv.lock").open("w")
    if sys.platform != "win32":  # where two at once are left to luck
        import fcntl

        # Released by the system when this process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
    stamp = VENV / f".ready-{'-'.join(['core', *extras])}"
    wanted = fingerprint()
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted and works("import lenet"):
        stamp.touch()
        return
    stamp.unlink(missing_ok=True)
    if not works("import pip"):
        say("making .venv")
        shutil.rmtree(VENV, ignore_errors=True)
        make_venv()
    install_torch()
    say("installing lenet and what it needs")
    target = str(ROOT) + (f"[{','.join(extras)}]" if extras else "")
    pip("-c", str(ROOT / "constraints.txt"), "--editable", target)
    if not works("import lenet, torch"):
        sys.exit("error: .venv does not work; delete it and run this again")
    stamp.write_text(wanted, encoding="ascii")


def say(text: str) -> None:
    """Tell the person who waits."""
    print(f"lenet set-up: {text}", file=sys.stderr, flush=True)


def fingerprint() -> str:
    """Return a hash of all that decides what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def works(code: str) -> bool:
    """Whether the environment's Python runs this code."""
    try:
        return subprocess.run([PYTHON, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def make_venv() -> None:
    """Make an empty environment."""
    made = subprocess.run([sys.executable, "-m", "venv", VENV])
    if made.returncode:
        sys.exit(
            f"error: `{sys.executable} -m venv` failed; "
            "on Debian and Ubuntu, `apt install python3-venv` helps"
        )


def pip(*arguments: str, quiet: bool = False) -> bool:
    """Run the environment's pip to install; unless quiet, a failure ends the set-up."""
    # Python compiles what it imports; all of torch and its company would take twice as long.
    install = ("--disable-pip-version-check", "install", "--no-compile")
    command = [str(PYTHON), "-m", "pip", *install, *arguments]
    if not quiet:
        command.append("--quiet")
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.DEVNULL if quiet else None)
    if done.returncode and not quiet:
        sys.exit("error: pip failed (see above); run this again when the cause is gone")
    return done.returncode == 0


def install_torch() -> None:
    """Install the pinned torch: on Linux without an NVIDIA GPU, the CPU build if it can be had.

    PyPI's build for Linux brings some gigabytes of CUDA; PyTorch's own index has one without.
    """
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^torch==\S+", constraints, re.MULTILINE)
    assert pinned, "constraints.txt pins torch"
    if works(f"import torch; assert torch.__version__.split('+')[0] == '{pinned[0][7:]}'"):
        return
    say(f"installing {pinned[0]} (once; some 200 MB)")
    has_gpu = shutil.which("nvidia-smi") or os.path.exists("/dev/nvidia0")
    if platform.system() == "Linux" and not has_gpu:
        # One try: a network that does not reach that index costs seconds, not minutes.
        one_try = ("--retries", "0", "--timeout", "15", "--no-deps", "--index-url", CPU_INDEX)
        if pip(*one_try, pinned[0], quiet=True):
            return
    pip("-c", str(ROOT / "constraints.txt"), pinned[0])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again to go on")
