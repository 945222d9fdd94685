"""Connect to a Ray cluster, where Ray is installed."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lenet.errors import ClusterError, LeNetError, install_hint

LOCAL = "local"
"""The address that starts a cluster on this machine, for as long as the command runs."""
CONNECT_S = 10.0
"""Seconds that a cluster's head has to take a connection. Ray itself tries for minutes."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, and yield the module `ray`.

    Args:
        address: Of its head, such as "10.0.0.1:6379", "auto" for that which runs here, or `LOCAL`.

    Raises:
        ClusterError: Ray is not installed, there is no cluster at that address, or it is lost.
    """
    # Ray asks at import. Nothing is sent anywhere.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A GPU stays visible to tasks that ask for none, as it is to processes without Ray.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError(f"--ray needs Ray: {install_hint('cluster')}") from None
    _require_listener(address)
    settings: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == LOCAL:
        settings["include_dashboard"] = False
    try:
        ray.init(address=address, **settings)
    except Exception as error:  # a node that starts too slowly raises no class more special
        raise ClusterError(f"no Ray cluster at `{address}`: {reason_of(error)}") from None
    try:
        yield ray
    except OSError as error:
        # Ray's own, where its processes are gone, has no number; one about a file has.
        if isinstance(error, LeNetError) or error.errno is not None:
            raise
        raise ClusterError(
            f"lost the Ray cluster at `{address}`: {reason_of(error)}; the same command goes on"
        ) from None
    finally:
        ray.shutdown()


def reason_of(error: Exception) -> str:
    """Return the line of an error of Ray's that says what happened."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # What a task raised comes as a traceback.
    return lines[-1] if any("Traceback" in line or "ray::" in line for line in lines) else lines[0]


def _require_listener(address: str) -> None:
    """Find out at once whether anyone listens at HOST:PORT; other addresses are left to Ray."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ClusterError(f"no Ray cluster at `{address}`: {error}") from None
