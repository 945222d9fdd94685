"""Run the application: sockets, signals, and an end that loses nothing."""

import logging
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from lenet.errors import LeNetError
from lenet.serve.connection import Connection
from lenet.serve.service import Service

BACKLOG = 1024
NOTICE_S = 1.0
"""How long a server that was told to end still takes connections. Every answer says in this time
that its connection ends, so that whatever is open afterwards has been idle as long."""
LAST_ACCEPT_S = 5.0
"""How long after that those who have connected may wait to be accepted."""

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, with a notice before its end."""

    def __init__(self, config: uvicorn.Config, service: Service, listener: socket.socket) -> None:
        """Serve on a bound socket."""
        super().__init__(config)
        self._service, self._listener = service, listener
        self._told: float | None = None
        self._is_closed = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once."""
        if self._told is not None:
            self.should_exit = self.force_exit = True
        else:
            self._told = time.monotonic()
            self._service.is_draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether to close now."""
        if await super().on_tick(counter):
            return True
        if self._told is None:
            return False
        waited_s = time.monotonic() - self._told
        if waited_s < NOTICE_S:
            return False
        if not self._is_closed:
            refuse_new(self._listener)
            self._is_closed = True
            return False
        # A busy event loop accepts few connections a turn.
        return waited_s > NOTICE_S + LAST_ACCEPT_S or not has_waiting(self._listener)


def has_waiting(listener: socket.socket) -> bool:
    """Whether somebody has connected and is not accepted yet."""
    readable, _, _ = select.select([listener], [], [], 0)
    return bool(readable)


def refuse_new(listener: socket.socket) -> None:
    """Have the system drop attempts to connect, while those that succeeded are still accepted.

    Closing the socket at once would reset whoever has connected and is not accepted yet.
    """
    if sys.platform != "linux":
        return
    import ctypes

    class Instruction(ctypes.Structure):
        _fields_ = (
            ("code", ctypes.c_uint16),
            ("jt", ctypes.c_uint8),
            ("jf", ctypes.c_uint8),
            ("k", ctypes.c_uint32),
        )

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Instruction)))

    attach_filter, return_constant = 26, 0x06  # <asm/socket.h>, <linux/bpf_common.h>
    program = Program(1, ctypes.pointer(Instruction(return_constant, 0, 0, 0)))
    with suppress(OSError):  # a system without it closes the plain way
        listener.setsockopt(socket.SOL_SOCKET, attach_filter, bytes(program))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        LeNetError: The address can't be had.
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
    """Return where a socket listens."""
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
        timeout_graceful_shutdown=limits.drain_s,  # type: ignore[arg-type]  # likewise
        backlog=BACKLOG,
    )
    return Server(config, service, listener)
