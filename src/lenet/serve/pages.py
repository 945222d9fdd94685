"""The pages for people: one to draw on, and the description of the interface."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lenet.page import build_page, content_security_policy

MAX_CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page and what it may do."""

    html: str
    policy: str
    """Value of its Content-Security-Policy."""


def build_root(model: bytes, num_classes: int) -> Page:
    """Return the page of a model file: draw, and watch the network; it works in the browser alone.

    A network with more classes than fit on it gets a form that sends a picture to `/predict`.
    """
    if num_classes > MAX_CLASSES:
        return _render("form.html.j2")
    return Page(html=build_page([model]), policy=content_security_policy())


def build_docs(schema: dict[str, Any]) -> Page:
    """Return an OpenAPI description as a page."""
    return _render(
        "docs.html.j2",
        info=schema["info"],
        operations=list(_operations(schema)),
        schemas=schema["components"]["schemas"],
    )


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield {
                "method": method.upper(),
                "path": path,
                "summary": operation.get("description") or operation.get("summary", ""),
                "parameters": operation.get("parameters", []),
                "bodies": operation.get("requestBody", {}).get("content", {}),
                "responses": operation["responses"],
            }


def _render(name: str, **values: Any) -> Page:
    import jinja2

    folder = files("lenet").joinpath("serve")
    style = folder.joinpath("pages.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True)
    template = environment.from_string(folder.joinpath(name).read_text(encoding="utf-8"))
    # The style is let through by its hash, everything else by nothing.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Page(
        html=template.render(style=style, **values),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'",
    )
