"""Compile the kernels to WebAssembly, for the page that trains in the browser.

Run: `.venv/bin/python scripts/build_wasm.py [--check]`. Needs the package `ziglang`, whose version
decides the bytes (constraints.txt). With --check the file in the package is compared, not written.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "lenet" / "native" / "kernels.cpp"
RESULT = ROOT / "src" / "lenet" / "page" / "kernels.wasm"
FLAGS = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-msimd128"),
    *("-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-exceptions", "-fno-rtti"),
    *(f"-Wl,--export={name}" for name in ("lenet5_call", "malloc")),
    "-Wl,--strip-all",
)


def build() -> bytes:
    """Return the compiled kernels."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "kernels.wasm"
        # Names relative to the source's folder, so that the bytes do not depend on where it lies.
        command = [sys.executable, "-m", "ziglang", "c++", *FLAGS, SOURCE.name, "-o", str(output)]
        subprocess.run(command, cwd=SOURCE.parent, check=True)
        return output.read_bytes()


if __name__ == "__main__":
    compiled = build()
    if "--check" not in sys.argv:
        RESULT.write_bytes(compiled)
    elif compiled != RESULT.read_bytes():
        sys.exit(f"error: {RESULT}: not what {SOURCE.name} compiles to; run this without --check")
    print(f"{RESULT.relative_to(ROOT)}: {len(compiled):,} bytes")
