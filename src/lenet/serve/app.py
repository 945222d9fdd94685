"""The ASGI application: routes, errors, and what starts and ends with it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from lenet import __version__
from lenet.serve import inference_protocol, predict
from lenet.serve.access_log import AccessLog
from lenet.serve.answers import Health, Problem
from lenet.serve.describe import OF_MODEL, responses
from lenet.serve.guard import MISTAKE, Guard
from lenet.serve.pages import Page, build_docs
from lenet.serve.problems import MEDIA_TYPE, ProblemError, encode
from lenet.serve.service import Service

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_app(
    service: Service, page: Page, log: AccessLog, *, cors_origins: Sequence[str] = ()
) -> ASGIApp:
    """Return the application of one server.

    Args:
        service: Its state; its workers start and end with the application.
        page: What `/` shows.
        log: Told of each request.
        cors_origins: Web origins whose pages may use this server.
    """
    service.metrics.log_lines_lost.set_function(lambda: log.num_lost)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.workers.running():
            service.is_ready = True
            yield
        service.batcher.close()

    app = FastAPI(
        title="lenet",
        version=__version__,
        description="Handwritten digits read by LeNet-5.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere; ours has none
        redoc_url=None,
        redirect_slashes=False,
    )
    routers = (inference_protocol.build_router(service), predict.build_router(service))
    for router in (*routers, _build_router(service, page, app)):
        app.include_router(router)
    _handle_errors(app)
    _complete_description(app, service)
    fast_lane = {
        route.path: route.endpoint
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and route.methods == {"POST"}
    }
    guard = Guard(app, service, log, fast_lane)
    if not cors_origins:
        return guard
    # Before the guard: a browser sends no key with its preflight, and its page may read refusals.
    return CORSMiddleware(
        guard,
        allow_origins=list(cors_origins),
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key"],
    )


def _build_router(service: Service, page: Page, app: FastAPI) -> APIRouter:
    router = APIRouter(tags=["server"])
    classifier = service.classifier
    docs: list[HTMLResponse] = []

    @router.get("/health", responses=responses(Health, 500))
    async def health() -> Response:
        """Say how the server is; it answers as long as it lives."""
        status = "draining" if service.is_draining else "ok" if service.is_ready else "starting"
        return JSONResponse(
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

    @router.get(
        "/metrics",
        responses={
            200: {"content": {METRICS_TYPE: {"schema": {"type": "string"}}}},
            **responses(None, *OF_MODEL),
        },
        response_class=Response,
    )
    async def metrics() -> Response:
        """Return counters for Prometheus."""
        return Response(service.metrics.text(), media_type=METRICS_TYPE)

    @router.get("/", include_in_schema=False)
    async def root() -> Response:
        if service.key is not None:
            # The page holds the network's weights, and a browser that opens it sends no key.
            return RedirectResponse("docs")
        return HTMLResponse(page.html, headers={"content-security-policy": page.policy})

    @router.get("/docs", include_in_schema=False)
    async def documentation() -> Response:
        if not docs:
            found = build_docs(app.openapi())
            docs.append(HTMLResponse(found.html, headers={"content-security-policy": found.policy}))
        return docs[0]

    return router


def _handle_errors(app: FastAPI) -> None:
    def respond(request: Request, error: ProblemError) -> Response:
        body = encode(error.status, error.detail, request.url.path, error.members)
        return Response(body, error.status, error.headers, MEDIA_TYPE)

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return respond(request, error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = ProblemError(error.status_code, str(error.detail), headers=error.headers)
        return respond(request, found)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return respond(request, ProblemError(422, f"{where}: {first['msg']}"))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nginx's number; nobody reads it

    async def mistake(request: Request, error: Exception) -> Response:
        return respond(request, ProblemError(500, MISTAKE))

    app.add_exception_handler(Exception, mistake)  # and is raised again, for the guard to log
    app.add_exception_handler(ProblemError, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)


def _complete_description(app: FastAPI, service: Service) -> None:
    """Add what FastAPI leaves out: the form of problems, and the key."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            parts = schema.setdefault("components", {})
            template = "#/components/schemas/{model}"
            parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema(
                ref_template=template
            )
            # FastAPI's own form of a 422 is not what is answered here.
            for name in ("HTTPValidationError", "ValidationError"):
                parts["schemas"].pop(name, None)
            if service.key is not None:
                parts["securitySchemes"] = {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                }
                schema["security"] = [{"bearer": []}, {"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
