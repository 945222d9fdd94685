"""The ASGI application: its routes, start and end."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files

import jinja2
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp

from lenet import __version__
from lenet.page import build_page, content_security_policy
from lenet.serve import inference, pictures
from lenet.serve.bodies import json_response
from lenet.serve.guard import AccessLog, Guard
from lenet.serve.service import Routes, Service

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_app(service: Service, log: AccessLog, *, cors_origins: Sequence[str] = ()) -> ASGIApp:
    """Return the application of one server.

    Args:
        service: Its state; its workers start and end with the application.
        log: Where each request is logged.
        cors_origins: Web origins whose pages may use this server.
    """
    service.metrics.log_lines_lost.set_function(lambda: log.num_lost)

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with service.workers.running():
            service.is_ready = True
            yield
        service.batcher.close()

    routes = pictures.routes(service) | inference.routes(service) | _routes(service)
    guard = Guard(routes, service, log, lifespan=Router(lifespan=lifespan))
    if not cors_origins:
        return guard
    # Outside the guard: a browser sends no key with its preflight, and its page may read errors.
    return CORSMiddleware(
        guard,
        allow_origins=list(cors_origins),
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key"],
    )


def _routes(service: Service) -> Routes:
    classifier = service.classifier
    page = build_page([classifier.path.read_bytes()])
    page_policy = {"content-security-policy": content_security_policy()}

    async def root(request: Request) -> Response:
        if service.key is not None:
            # The page holds the network's weights, and a browser that opens it sends no key.
            return RedirectResponse("docs")
        return HTMLResponse(page, headers=page_policy)

    async def docs(request: Request) -> Response:
        html, policy = _docs()
        return HTMLResponse(html, headers={"content-security-policy": policy})

    async def openapi(request: Request) -> Response:
        text = _read("openapi.json").replace("/models/lenet5", f"/models/{classifier.model}")
        return Response(text, media_type="application/json")

    async def health(request: Request) -> Response:
        status = "draining" if service.is_draining else "ok" if service.is_ready else "starting"
        return json_response(
            {
                "status": status,
                "version": __version__,
                "model": classifier.model,
                "engine": classifier.engine,
                "requests_in_work": service.num_requests,
                "images_waiting": service.batcher.num_waiting,
                "pictures_waiting": service.workers.num_waiting,
            }
        )

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=METRICS_TYPE)

    return {
        "/": ("GET", root),
        "/docs": ("GET", docs),
        "/openapi.json": ("GET", openapi),
        "/health": ("GET", health),
        "/metrics": ("GET", metrics),
    }


def _read(name: str) -> str:
    return files("lenet").joinpath("serve", name).read_text(encoding="utf-8")


@cache
def _docs() -> tuple[str, str]:
    """Return the OpenAPI description as a page without scripts, and the page's policy."""
    style = _read("docs.css")
    template = jinja2.Environment(autoescape=True).from_string(_read("docs.html.j2"))
    html = template.render(api=json.loads(_read("openapi.json")), style=style)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return html, (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
    )
