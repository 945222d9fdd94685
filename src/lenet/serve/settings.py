"""What a server allows: sizes, times, queues, keys."""

from dataclasses import dataclass, fields
from pathlib import Path

from lenet.errors import LeNetError

MIN_KEY_BYTES = 16
"""Shorter keys can be guessed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a server takes on; what is over is refused, never piled up."""

    max_body_bytes: int = 20 * 10**6
    """Of one request: 413 above. A photograph of 12 megapixels has some 5 million bytes."""
    max_images: int = 1024
    """28x28 images of one request."""
    max_pictures: int = 16
    """Pictures of one request."""
    max_requests: int = 256
    """In work or waiting at one time: 503 above. At some thousands a second, a wait of 0.1 s."""
    max_picture_wait_s: float = 2.0
    """For a picture to wait for a worker: 503 if it would be longer."""
    max_wait_s: float = 1.0
    """For images to wait for the engine: 503 if it would be longer."""
    max_held_bytes: int = 256 * 10**6
    """Bodies held by all requests in work: 503 above."""
    max_connections: int = 1024
    """Open at one time: 503 above, before a request is read."""
    rate: float = 0.0
    """Requests a second of one client over some seconds: 429 above; 0 for any number."""
    header_s: float = 10.0
    """For a request's line and headers to arrive."""
    body_s: float = 30.0
    """For a body to arrive: 408 after."""
    picture_s: float = 10.0
    """For one picture to be read; its worker is ended then."""
    request_s: float = 60.0
    """For a request as a whole: 503 after."""
    idle_s: float = 30.0
    """Between the requests of a connection."""
    drain_s: float = 30.0
    """For what was accepted to be answered, once the server is told to end."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name != "rate"):
                raise LeNetError(f"`{field.name}` (={value}) must be more than 0")


def read_key(path: Path | None, variable: str | None) -> bytes | None:
    """Return the API key of a file or, without one, of the environment variable's value.

    Raises:
        LeNetError: The file can't be read, or the key is too short or has characters that a
            header can't hold.
    """
    source = "LENET_API_KEY" if path is None else str(path)
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LeNetError(f"{path}: the API key can't be read: {error}") from None
    elif variable is not None:
        text = variable.strip()
    else:
        return None
    if len(text) < MIN_KEY_BYTES or not (text.isascii() and text.isprintable() and " " not in text):
        raise LeNetError(
            f"{source}: an API key has at least {MIN_KEY_BYTES} printable ASCII characters and no "
            f"space, found {len(text)}; `openssl rand -hex 16` makes one"
        )
    return text.encode()
