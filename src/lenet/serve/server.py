"""Run the application: sockets, signals, and an end that loses no request."""

import logging
import select
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from lenet.errors import LeNetError
from lenet.serve.connection import Connection
from lenet.serve.service import Service

BACKLOG = 1024
NOTICE_S = 1.0
"""How long a server that was told to end still accepts connections. In this time each response
says that its connection ends, so clients send their next request elsewhere."""
LAST_ACCEPT_S = 5.0
"""How long after that pending connections may take to be accepted."""


class Server(uvicorn.Server):
    """uvicorn's server, with a notice before its end."""

    def __init__(self, config: uvicorn.Config, service: Service, listener: socket.socket) -> None:
        """Serve on a bound socket."""
        super().__init__(config)
        self._service, self._listener = service, listener
        self._told: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once."""
        if self._told is not None:
            self.should_exit = self.force_exit = True
            # Else what is cut off is reported with its traceback.
            logging.getLogger("uvicorn.error").disabled = True
        else:
            self._told = time.monotonic()
            self._service.is_draining = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to close now; called ten times a second."""
        if await super().on_tick(counter):
            return True
        if self._told is None:
            return False
        waited_s = time.monotonic() - self._told
        if waited_s < NOTICE_S:
            return False
        # Closing the socket resets connections that are not accepted yet.
        has_pending = bool(select.select([self._listener], [], [], 0)[0])
        return not has_pending or waited_s > NOTICE_S + LAST_ACCEPT_S


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        LeNetError: The address is not available.
    """
    try:
        (family, *_, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LeNetError(f"can't listen on {host} port {port}: {reason}") from None


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def build_server(
    app: Any, service: Service, listener: socket.socket, *, trusted_proxies: Sequence[str] = ()
) -> Server:
    """Return a server, ready to run.

    Args:
        app: The ASGI application.
        service: Its state.
        listener: A bound socket.
        trusted_proxies: Addresses whose `X-Forwarded-For` names the client.
    """
    limits = service.limits
    protocol: Callable[..., Any] = partial(Connection, service)
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]  # called, never subclassed
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type]  # any number does
        timeout_graceful_shutdown=limits.drain_s,  # type: ignore[arg-type]  # any number does
        backlog=BACKLOG,
    )
    return Server(config, service, listener)
