"""Find the kernels of this machine: those of the wheel, or else compiled here once.

Wheels of the common platforms carry libraries (scripts/build_wheels.py). From source, or on another
processor, the C++ sources beside this module are compiled. Where neither works, the error says why.
"""

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from filelock import FileLock

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
    """Load the library of a source: the wheel's, or else the one compiled here.

    Raises:
        NativeUnavailableError: As `build`, or the library can't be loaded.
    """
    library = prebuilt(name)
    try:
        return ctypes.CDLL(str(library if library.exists() else build(name)))
    except OSError as error:
        raise NativeUnavailableError(f"the compiled {name} can't be loaded: {error}") from None


def prebuilt(name: str) -> Path:
    """Return where a wheel would have a source's library for this processor."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    level = {"AVX512": "v4", "AVX2": "v3"}.get(capability, "base")
    return Path(__file__).with_name(f"{name}.{level}.so")


def build(name: str = "kernels") -> Path:
    """Return the shared library of a source, compiled for this machine if it has not been yet.

    Args:
        name: Of the .cpp file beside this module, without its ending.

    It lies in the cache under a hash of source, compiler, flags and processor.

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
            # Windows can't replace a library that another process has loaded.
            with FileLock(folder / "lock"):
                if not library.exists():
                    _compile(compiler, source, library, name)
    except (OSError, subprocess.SubprocessError) as error:
        raise NativeUnavailableError(_reason(error)) from None
    return library


def _compiler() -> list[str]:
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    # On Windows, GCC does not align vectors on the stack, and Clang calls Microsoft's linker.
    for name in () if os.name == "nt" else ("g++", "clang++", "c++"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise NativeUnavailableError(
        "no C++ compiler found; `apt install g++`, `dnf install gcc-c++`, `xcode-select --install` "
        "or `pip install ziglang` brings one"
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
