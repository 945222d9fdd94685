"""Other systems: no POSIX-only module, kernels from a wheel, a console of few characters."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lenet.native import build
from lenet.native.build import NativeUnavailableError, load_library

IMPORT_ALL = """
import importlib, pkgutil, sys
import filelock, jsonschema, matplotlib.pyplot, pooch, requests, rich, torch, tyro, uvicorn
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
import lenet
names = [found.name for found in pkgutil.walk_packages(lenet.__path__, "lenet.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert len(names) > 50
"""


def test_no_module_needs_one_that_windows_lacks() -> None:
    subprocess.run([sys.executable, "-c", IMPORT_ALL], check=True)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)


@pytest.mark.usefixtures("no_compiler")
def test_kernels_of_a_wheel_need_no_compiler(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiled = next(kernels.glob("distort-*.so"), None)
    if compiled is None:
        pytest.skip("no C++ compiler here")
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))
    with pytest.raises(NativeUnavailableError, match="no C"):
        load_library("distort")
    shutil.copy(compiled, build.prebuilt("distort"))
    assert load_library("distort").lenet_distort


@pytest.mark.parametrize(
    ("capability", "level"), [("AVX512", "v4"), ("AVX2", "v3"), ("DEFAULT", "base")]
)
def test_the_wheels_library_is_the_processors(
    capability: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert build.prebuilt("kernels").name == f"kernels.{level}.so"


@pytest.mark.usefixtures("no_compiler")
def test_an_installed_zig_is_the_last_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").touch()
    (tmp_path / "ziglang" / "__main__.py").write_text("import sys; sys.exit('zig was called')")
    monkeypatch.delitem(sys.modules, "ziglang")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NativeUnavailableError, match="zig was called"):
        build.build("distort")


def test_a_name_that_the_console_lacks_is_escaped(tmp_path: Path) -> None:
    picture = tmp_path / "\N{CJK UNIFIED IDEOGRAPH-4E03}.png"
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(picture)
    found = subprocess.run(
        [sys.executable, "-m", "lenet", "predict", str(picture)],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        encoding="cp1252",
    )
    assert r"\u4e03.png" in found.stdout + found.stderr
    assert "Traceback" not in found.stderr
