"""Open a page in a Chromium on this machine, without a window, and ask it for values.

Spoken is the Chrome DevTools Protocol over two pipes: JSON messages that end in a zero byte. No
port is opened and no driver is needed.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from lenet.errors import ExportError

NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "brave-browser"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--no-default-browser-check", "--disable-dev-shm-usage"),
)
LIMIT_S = 120
"""For one answer; the machine may be busy."""

# The browser wants its pipes as descriptors 3 and 4, whatever they are here.
LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find_browsers() -> list[str]:
    """Return the programs that may be a Chromium: `$CHROME_BIN` alone, else all known by name."""
    named = os.environ.get("CHROME_BIN")
    return [found for name in ([named] if named else NAMES) if (found := shutil.which(name))]


def start_browser() -> "Browser | None":
    """Return the first browser that starts; None if none does."""
    for program in find_browsers():
        try:
            return Browser(program)
        except ExportError:
            continue  # some systems have a program of that name that only says how to install it
    return None


class Browser:
    """A browser with one page, closed at the end of a `with` block."""

    def __init__(self, program: str) -> None:
        """Start it.

        Raises:
            ExportError: It does not start.
        """
        self._profile = tempfile.TemporaryDirectory(
            prefix="lenet-browser-", ignore_cleanup_errors=True
        )
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # Chromium's own sandbox does not work for root, as in most containers.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        profile = f"--user-data-dir={self._profile.name}"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-S", "-c", LAUNCH, str(commands), str(answers)),
                *(program, *FLAGS, *sandbox, profile, "about:blank"),
            ],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._pending = b""
        self._count = 0
        self._session = self._target = ""
        try:
            self.name: str = self._call("Browser.getVersion")["product"].replace("Headless", "")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Browser":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the browser and remove what it wrote."""
        os.close(self._commands)
        os.close(self._answers)
        try:
            self._process.wait(5)  # it goes when its pipes do
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def open(self, path: Path) -> None:
        """Open a file in place of what is there, and wait until it has loaded.

        Raises:
            ExportError: It can't.
        """
        self._session = ""
        created = self._call("Target.createTarget", url=path.resolve().as_uri())["targetId"]
        if self._target:
            self._call("Target.closeTarget", targetId=self._target)
        self._target = created
        attached = self._call("Target.attachToTarget", targetId=created, flatten=True)
        self._session = attached["sessionId"]
        end = time.monotonic() + LIMIT_S
        # A new page is an empty one for a moment.
        loaded = "location.href !== 'about:blank' && document.readyState === 'complete'"
        while not self.evaluate(loaded):
            if time.monotonic() > end:
                raise ExportError(f"{self.name}: {path}: did not load in {LIMIT_S} s")
            time.sleep(0.02)
        if self.evaluate("location.protocol") != "file:":
            raise ExportError(
                f"{self.name} can't open {path}; a browser in a sandbox of its own may read no "
                "such folder: --out names another, CHROME_BIN another browser"
            )

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page.

        Raises:
            ExportError: It raises one.
        """
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            said = details.get("exception", {}).get("description") or details.get("text", "")
            raise ExportError(f"{self.name}: the page failed: {said.splitlines()[0]}")
        return found["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        try:
            view = memoryview(json.dumps(message).encode() + b"\0")
            while view:
                view = view[os.write(self._commands, view) :]
        except OSError:
            raise ExportError("the browser ended before it was told to") from None
        end = time.monotonic() + LIMIT_S
        while True:
            answer = json.loads(self._read(end))
            if answer.get("id") != self._count:
                continue  # an event
            if "error" in answer:
                raise ExportError(f"the browser refused {method}: {answer['error']['message']}")
            return answer["result"]

    def _read(self, end: float) -> bytes:
        """Return the next message."""
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise ExportError(f"the browser did not answer within {LIMIT_S} s")
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise ExportError("the browser ended before it was told to")
            self._pending += part
        message, self._pending = self._pending.split(b"\0", 1)
        return message
