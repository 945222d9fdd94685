"""Run a page in a Chromium on this machine, without a window, and return what it computed."""

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lenet.errors import ExportError

NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "brave-browser"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = (
    *("--headless", "--dump-dom", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--no-default-browser-check", "--disable-dev-shm-usage"),
)
LIMIT_S = 120
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def find_browsers() -> list[str]:
    """Return programs that may be a Chromium: `$CHROME_BIN` alone if set, else all known names."""
    named = os.environ.get("CHROME_BIN")
    return [found for name in ([named] if named else NAMES) if (found := shutil.which(name))]


def find_browser() -> tuple[str, str] | None:
    """Return the path of the first browser, and its name and version; None if there is none."""
    for program in find_browsers():
        # On some systems the program of that name only prints how to install the browser.
        try:
            found = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        name = found.stdout.strip()
        if found.returncode == 0 and re.search(r"(Chrom|Edge|Brave).* \d", name):
            return program, name
    return None


def run_page(program: str, page: Path, expression: str) -> str:
    """Return the value of a JavaScript expression, a string, in a page.

    Args:
        program: A Chromium.
        page: An HTML file. A copy is run, without its Content-Security-Policy and with a script
            that writes the value into an element.
        expression: May use everything that the page's scripts define.

    Raises:
        ExportError: The browser fails, or the page does not compute the value.
    """
    text = POLICY.sub("", page.read_text(encoding="utf-8"), count=1)
    script = (
        "const element = document.createElement('output'); element.id = 'value';"
        f"element.textContent = {expression}; document.body.append(element)"
    )
    # Chromium's own sandbox does not work for root, as in most containers.
    sandbox = ["--no-sandbox"] if sys.platform != "win32" and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="lenet-browser-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(f"{text}<script>{script}</script>", encoding="utf-8")
        profile = f"--user-data-dir={folder}/profile"
        command = [program, *FLAGS, *sandbox, profile, copy.as_uri()]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"{program}: the page could not be run: {error}") from None
    value = re.search(r'<output id="value">(.*?)</output>', found.stdout, re.DOTALL)
    if value is None:
        raise ExportError(f"{program}: the page did not compute; CHROME_BIN names another browser")
    return html.unescape(value[1])
