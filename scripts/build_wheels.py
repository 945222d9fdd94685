"""Build the wheels: one with kernels for each common platform, and one without for all others.

Run: `.venv/bin/python -m pip install build ziglang`, then `.venv/bin/python scripts/build_wheels.py
[PLATFORM...]`. One Linux machine builds them all, into dist/; the first time takes some minutes,
since Zig compiles its C++ library for each target.
"""

import os
import subprocess
import sys
from pathlib import Path

from lenet.native.build import FLAGS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("kernels", "lenet5_1998", "distort")
X86 = {"v3": "x86_64_v3", "v4": "x86_64_v4"}

# The wheel's platform: Zig's target, and its processor for each name that build.py looks for.
TARGETS = {
    "manylinux_2_17_x86_64": ("x86_64-linux-gnu.2.17", X86),
    "manylinux_2_17_aarch64": ("aarch64-linux-gnu.2.17", {"base": "generic"}),
    "macosx_11_0_x86_64": ("x86_64-macos.11.0", X86),
    "macosx_11_0_arm64": ("aarch64-macos.11.0", {"base": "apple_m1"}),
    "win_amd64": ("x86_64-windows-gnu", X86),
}


def main(platforms: list[str]) -> None:
    """Compile and pack the wheels of the platforms named, or all of them."""
    for platform in platforms or [*TARGETS, "any"]:
        if platform == "any":
            build_wheel({})
            continue
        folder = ROOT / "build" / platform
        folder.mkdir(parents=True, exist_ok=True)
        target, processors = TARGETS[platform]
        for level, processor in processors.items():
            for name in SOURCES:
                compile_library(name, target, processor, folder / f"{name}.{level}.so")
        build_wheel({"LENET_KERNELS": str(folder)})


def compile_library(name: str, target: str, processor: str, library: Path) -> None:
    """Compile one source for another machine."""
    zig = [sys.executable, "-m", "ziglang", "c++", "-target", target, f"-mcpu={processor}"]
    flags = [flag for flag in FLAGS if flag != "-march=native"]
    source = ROOT / "src" / "lenet" / "native" / f"{name}.cpp"
    subprocess.run([*zig, *flags, "-s", str(source), "-o", str(library)], check=True)


def build_wheel(environment: dict[str, str]) -> None:
    """Build a wheel into dist/, see hatch_build.py."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", "dist"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
