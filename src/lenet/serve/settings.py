"""What a server allows: sizes, times, queues, and the API key."""

from dataclasses import dataclass, fields
from pathlib import Path

from lenet.errors import LeNetError

MIN_KEY_BYTES = 16
"""Shorter keys can be guessed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a server accepts; anything above is refused at once, never queued without end."""

    max_body_bytes: int = 20 * 10**6
    """Of one request; 413 above. A photograph of 12 megapixels has some 5 million bytes."""
    max_images: int = 1024
    """28x28 images in one request; 413 above."""
    max_pictures: int = 16
    """Pictures in one request; 413 above."""
    max_requests: int = 256
    """Requests in progress; 503 above."""
    max_waiting_images: int = 4096
    """Images that wait for the engine; 503 above."""
    max_waiting_pictures: int = 64
    """Pictures that wait for a worker process; 503 above."""
    max_held_bytes: int = 256 * 10**6
    """Bodies in memory, of all requests together; 503 above."""
    max_connections: int = 1024
    """Open connections; 503 above, before a request is read."""
    rate: float = 0.0
    """Requests a second of one client, over some seconds; 429 above. 0 for no limit."""
    header_s: float = 10.0
    """Time for a request's line and headers to arrive; 408 after."""
    body_s: float = 30.0
    """Time for a body to arrive; 408 after."""
    picture_s: float = 10.0
    """Time for one picture to be read; its worker process is then ended."""
    request_s: float = 60.0
    """Time for a whole request; 503 after."""
    idle_s: float = 30.0
    """Time between two requests of a connection."""
    drain_s: float = 30.0
    """Time to finish accepted requests after SIGTERM or Ctrl-C."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name != "rate"):
                raise LeNetError(f"`{field.name}` (={value}) must be more than 0")


def read_key(path: Path | None, variable: str | None) -> bytes | None:
    """Return the API key in a file or, without a file, in the environment variable's value.

    Raises:
        LeNetError: The file cannot be read, or the key is too short or not printable ASCII.
    """
    if path is None and variable is None:
        return None
    source = "LENET_API_KEY" if path is None else str(path)
    try:
        text = (variable or "" if path is None else path.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LeNetError(f"{path}: the API key can't be read: {error}") from None
    if len(text) < MIN_KEY_BYTES or not (text.isascii() and text.isprintable() and " " not in text):
        raise LeNetError(
            f"{source}: an API key has at least {MIN_KEY_BYTES} printable ASCII characters and no "
            f"space, found {len(text)}; `openssl rand -hex 16` makes one"
        )
    return text.encode()
