"""Hold the code to the table in docs/architecture.md."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lenet

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "lenet"
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))


def read_levels() -> dict[str, int]:
    """The table "Who may import whom": the level of each module or package."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^level (\d)  +(.+?)(?:   +.*)?$", text, re.MULTILINE)
    return {name: int(level) for level, names in rows for name in names.split()}


def imports_of(path: Path) -> set[str]:
    """The modules or packages directly under `lenet` that a file imports."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "lenet":
                names = [f"lenet.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("lenet.")}
    return found - {"__version__"}


def home(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [m for m in MODULES if home(m) not in ("__init__", "__main__")])
def test_imports_point_down(path: Path) -> None:
    levels = read_levels()
    for target in imports_of(path) - {home(path)}:
        assert levels[target] < levels[home(path)], f"{path} imports {target}"


def test_the_table_names_every_module_and_no_other() -> None:
    assert set(read_levels()) == {home(m) for m in MODULES} - {"__init__", "__main__"}


def test_modules_and_functions_stay_within_their_budgets() -> None:
    for path in MODULES:
        text = (PACKAGE / path).read_text(encoding="utf-8")
        if not re.search(r"^# Over \d+ lines: ", text, re.MULTILINE):
            assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (node.end_lineno or 0) - (body[0].lineno if body else node.lineno)
                assert length < 50, f"{path}: {node.name} has {length} lines"


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, lenet, lenet.cli; "
        "print([m for m in ('torch','numpy','matplotlib','PIL','tyro','rich','fastapi','onnx')"
        " if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names_have_one_home_and_exist() -> None:
    assert list(lenet._HOMES) == lenet.__all__
    for name in lenet.__all__:
        assert getattr(lenet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'LeNet6'"):
        _ = lenet.LeNet6


def test_version_is_stated_once() -> None:
    assert f"## [{lenet.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_code_is_ascii() -> None:
    for path in MODULES:
        assert (PACKAGE / path).read_bytes().isascii(), path
