"""A JSON object a line for each request, written beside the event loop."""

import json
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any, TextIO

MAX_LINES = 10_000
"""Held while whoever reads the log is slow; further ones are counted and left out."""
FLUSH_S = 0.1


class AccessLog:
    """Lines on their way to a stream."""

    def __init__(self, stream: TextIO | None) -> None:
        """Start the thread that writes; without a stream nothing is written."""
        self._stream = stream
        self._lines: deque[dict[str, Any]] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self.num_lost = 0
        if stream is not None:
            self._thread.start()

    @property
    def is_on(self) -> bool:
        """Whether lines are written at all."""
        return self._stream is not None

    def add(self, line: dict[str, Any]) -> None:
        """Have a line written soon; `time` is in seconds since 1970."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self.num_lost += 1

    def close(self) -> None:
        """Write what is left; give up on a stream that takes nothing."""
        self._ended.set()
        if self._stream is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._ended.wait(FLUSH_S):
            self._write()
        self._write()

    def _write(self) -> None:
        assert self._stream is not None
        texts = []
        while self._lines:
            line = self._lines.popleft()
            moment = datetime.fromtimestamp(line["time"], UTC).isoformat(timespec="milliseconds")
            texts.append(json.dumps({**line, "time": moment}))
        if not texts:
            return
        try:
            self._stream.write("\n".join(texts) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader has gone; the server goes on
            self.num_lost += len(texts)
