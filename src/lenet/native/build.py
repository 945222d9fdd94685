"""Compile the C++ sources here once for this machine, and say why where that can't be done."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from lenet.data.datasets import cache_dir

COMPILE_LIMIT_S = 180
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-ffp-contract=fast",
    "-fno-math-errno",  # lets loops with square roots be vectorized
    "-pthread",
)


class NativeUnavailableError(Exception):
    """The kernels can't be had on this machine; the message says why and what would help."""


def load_library(name: str) -> ctypes.CDLL:
    """Compile a source if need be, and load it.

    Raises:
        NativeUnavailableError: As `build`, or the result can't be loaded.
    """
    try:
        return ctypes.CDLL(str(build(name)))
    except OSError as error:
        raise NativeUnavailableError(f"the compiled {name} can't be loaded: {error}") from None


def build(name: str = "kernels") -> Path:
    """Return the shared library of a source, compiled for this machine if it has not been yet.

    Args:
        name: Of the .cpp file beside this module, without its ending.

    It lies in the cache under a hash of source, compiler, flags and processor. Two processes
    that compile at once each make their own and rename it; the last one stays.

    Raises:
        NativeUnavailableError: No compiler, a compiler that fails, or no place to write.
    """
    source = files("lenet").joinpath("native", f"{name}.cpp").read_bytes()
    compiler = _compiler()
    try:
        version = subprocess.run(
            [*compiler, "--version"], capture_output=True, timeout=30, check=True
        ).stdout
        key = hashlib.sha256(
            b"\0".join([source, version, " ".join(FLAGS).encode(), _processor().encode()])
        ).hexdigest()[:16]
        folder = cache_dir() / "native"
        library = folder / f"{name}-{key}.so"
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(compiler, source, library, name)
    except (OSError, subprocess.SubprocessError) as error:
        raise NativeUnavailableError(_reason(error)) from None
    return library


def _compiler() -> list[str]:
    if sys.platform == "win32":
        raise NativeUnavailableError("the kernels are written for GCC and Clang")
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return [name]
    raise NativeUnavailableError(
        "no C++ compiler found; `apt install g++`, `dnf install gcc-c++` or "
        "`xcode-select --install` brings one"
    )


def _processor() -> str:
    """Return what `-march=native` depends on, so that a cache on a shared disk is safe."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    features = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    return "\n".join([platform.system(), platform.machine(), platform.processor(), *features])


def _compile(compiler: list[str], source: bytes, library: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix=".build-", dir=library.parent) as work:
        path = Path(work) / f"{name}.cpp"
        path.write_bytes(source)
        output = path.with_suffix(".so")
        subprocess.run(
            [*compiler, *FLAGS, str(path), "-o", str(output)],
            capture_output=True,
            timeout=COMPILE_LIMIT_S,
            check=True,
        )
        os.replace(output, library)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"`{shlex.join(map(str, error.cmd[:1]))}` failed: {said[0] if said else 'silently'}"
    return f"{type(error).__name__}: {error}"
