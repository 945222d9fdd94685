"""Compile an exported C file on this machine, to run it and compare it with its source."""

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from lenet.errors import ExportError

FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
COMPILE_LIMIT_S = 180


def find_compiler() -> list[str]:
    """Return the command of a C compiler: `$CC`, else the first of cc, gcc and clang.

    Raises:
        ExportError: There is none.
    """
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise ExportError(
        "no C compiler found, and exported code is run before it is kept; `apt install gcc`, "
        "`dnf install gcc` or `xcode-select --install` brings one"
    )


def compile_library(path: Path) -> ctypes.CDLL:
    """Compile a C file and load it.

    Raises:
        ExportError: No compiler, or one that fails.
    """
    compiler = find_compiler()
    # A folder of its own: the same path twice would be the library that is loaded already.
    with tempfile.TemporaryDirectory(prefix="lenet-c-") as work:
        library = Path(work) / "model.so"
        command = [*compiler, *FLAGS, str(path.resolve()), "-o", str(library), "-lm"]
        try:
            subprocess.run(command, capture_output=True, timeout=COMPILE_LIMIT_S, check=True)
            return ctypes.CDLL(str(library))
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            raise ExportError(
                f"`{compiler[0]}` failed: {said[0] if said else 'silently'}"
            ) from None
        except (OSError, subprocess.SubprocessError) as error:
            raise ExportError(f"`{compiler[0]}`: {error}") from None
