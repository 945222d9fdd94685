"""What README and docs say must be so."""

import re
import subprocess
import sys
from pathlib import Path

from lenet.cli.main import VERBS
from lenet.training.recipe import RECIPES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_those_of_the_records() -> None:
    check = [sys.executable, str(ROOT / "scripts" / "tables.py"), "--check"]
    found = subprocess.run(check, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_commands_in_the_readme_exist() -> None:
    commands = re.findall(r"^(?:scripts/)?lenet (\S+)", README, re.MULTILINE)
    assert {"train", "evaluate", "data"} <= set(commands)
    assert {c for c in commands if not c.startswith("-")} <= VERBS.keys()


def test_links_of_the_docs_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_recipe_has_a_published_record() -> None:
    for name in RECIPES:
        assert (ROOT / "records" / f"{name}.json").is_file()
