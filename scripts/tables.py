"""Write the tables of README.md and docs from `records/`.

Run: `.venv/bin/python scripts/tables.py [--check]`. Each table stands between the comments
`<!-- table NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit status is 1
if a table differs from its records; a test does the same.
"""

import re
import sys

from pages import export, lenet5_1998, page, reading, results, serve, speed, studies
from pages.sources import ROOT

PAGES = (
    "README.md",
    "docs/decisions.md",
    "docs/results.md",
    "docs/speed.md",
    "docs/lenet5-1998.md",
    "docs/export.md",
    "docs/page.md",
    "docs/serve.md",
    "docs/studies.md",
    "docs/reading.md",
    "benchmarks/README.md",
)

TABLES = {
    name: table
    for module in (results, speed, lenet5_1998, export, page, serve, reading, studies)
    for name, table in module.TABLES.items()
}


def fill(text: str) -> str:
    """Return a page with its tables made again."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write or check every page."""
    stale = 0
    for name in PAGES:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = fill(before)
        if after == before:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"{name}: a table differs from its records; run scripts/tables.py")
        else:
            path.write_text(after, encoding="utf-8")
            print(f"{name}: written")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
