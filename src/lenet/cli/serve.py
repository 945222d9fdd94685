"""The verb that serves a model over HTTP.

stdout holds the access log, stderr everything else.
"""

import gc
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lenet.cli.options import parse
from lenet.errors import LeNetError, install_hint

KEY_VARIABLE = "LENET_API_KEY"
MAX_WORKERS = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Serve a model over HTTP: pictures, pixels and tensors in, labels out.

    Examples:
      lenet serve                              the package's own model on this machine alone
      lenet serve --model runs/default-seed0 --port 8080
      LENET_API_KEY=$(openssl rand -hex 16) lenet serve --host 0.0.0.0
      curl -F picture=@seven.png http://127.0.0.1:8000/predict

    Standard output has a JSON object a line for each request. Ctrl-C or SIGTERM ends the server
    once it has answered what it has accepted.
    """

    model: Annotated[Path, tyro.conf.arg(metavar="RUN|MODEL")] = Path("pretrained")
    """Run directory, model file, or `pretrained`: the package's own."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every one of this machine."""
    port: int = 8000
    """Port to listen on; 0 for any that is free."""
    engine: Literal["auto", "native", "onnxruntime", "torch", "numpy"] = "auto"
    """What computes: auto takes the first of compiled kernels, ONNX Runtime, numpy that works."""
    workers: int = 0
    """Processes that read pictures; 0 for one a core."""
    api_key_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the key that clients must send; or the variable LENET_API_KEY."""
    cors_origins: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ORIGIN...")] = ()
    """Web origins whose pages may use this server, such as https://example.org."""
    max_body_mb: float = 20.0
    """Largest request, in millions of bytes."""
    max_images: int = 1024
    """Largest number of 28x28 images in a request."""
    max_pictures: int = 16
    """Largest number of pictures in a request."""
    max_requests: int = 256
    """Largest number of requests in progress; further ones get status 503."""
    max_connections: int = 1024
    """Largest number of open connections."""
    rate: float = 0.0
    """Requests a second that one client may make; 0 for any number."""
    trusted_proxies: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ADDRESS...")] = ()
    """Addresses of reverse proxies whose X-Forwarded-For names the client, for --rate and the log;
    without it every user behind a proxy counts as one client."""
    picture_s: float = 10.0
    """Longest time for one picture, in seconds."""
    drain_s: float = 30.0
    """Longest time to answer what was accepted, once told to end."""
    access_log: bool = True
    """Write a line for each request; --no-access-log for none."""


def serve(arguments: Sequence[str]) -> int:
    """Serve a model until told to end."""
    options = parse(ServeOptions, "serve", arguments)
    _require_packages()
    from lenet.parallel import num_cores
    from lenet.reading.reader import named_model
    from lenet.serve.app import build_app
    from lenet.serve.classifier import load_classifier
    from lenet.serve.guard import AccessLog
    from lenet.serve.server import build_server, listen, url_of
    from lenet.serve.service import Service
    from lenet.serve.settings import Limits, read_key

    limits = Limits(
        max_body_bytes=round(options.max_body_mb * 10**6),
        max_images=options.max_images,
        max_pictures=options.max_pictures,
        max_requests=options.max_requests,
        max_connections=options.max_connections,
        rate=options.rate,
        picture_s=options.picture_s,
        drain_s=options.drain_s,
    )
    if not 0 <= options.workers <= MAX_WORKERS:
        raise LeNetError(f"`workers` (={options.workers}) must be between 0 and {MAX_WORKERS}")
    if not 0 <= options.port <= 65_535:
        raise LeNetError(f"`port` (={options.port}) must be between 0 and 65535")
    key = read_key(options.api_key_file, os.environ.get(KEY_VARIABLE))
    # Listen before reading the model, so that an address in use is an error at once.
    with listen(options.host, options.port) as listener, named_model(options.model) as model:
        service = Service(
            classifier=load_classifier(model, engine=options.engine),
            limits=limits,
            num_workers=options.workers or num_cores(),
            key=key,
        )
        log = AccessLog(sys.stdout if options.access_log else None)
        app = build_app(service, log, cors_origins=options.cors_origins)
        if key is None and not _is_loopback(listener.getsockname()[0]):
            logger.warning(
                "everyone who can reach this machine may use this server; %s sets a key",
                KEY_VARIABLE,
            )
        print(
            f"{service.classifier.model} by {service.classifier.engine} on {url_of(listener)}   "
            "Ctrl-C ends",
            file=sys.stderr,
            flush=True,
        )
        # Objects made so far stay: checking them for garbage would stop every request for a tenth
        # of a second, again and again.
        gc.collect()
        gc.freeze()
        server = build_server(app, service, listener, trusted_proxies=options.trusted_proxies)
        server.run(sockets=[listener])
        log.close()
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _require_packages() -> None:
    try:
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise LeNetError(f"serving needs {error.name}: {install_hint('serve')}") from None
