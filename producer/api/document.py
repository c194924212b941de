"""The OpenAPI document, made true: what every route may answer beside what each says of itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from producer.api import documented, teierrors
from producer.api.errors import TEI_PATHS, form_path

#: Media types of bodies and the statuses that any body may be refused with, before its route sees it.
_OF_BODIES = (400, 408, 413, 415)

#: Open to everybody under any name, and without a body: nothing refuses these.
_OPEN = ("/healthz", "/readyz", "/health")

_HEADERS = {
    401: {"WWW-Authenticate": {"description": "The scheme: Bearer.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
}


def install_document(app: FastAPI, *, with_keys: bool) -> None:
    """Let an app's OpenAPI document tell all that its routes and what stands before them answer.

    Args:
        app: The app, with all its routes.
        with_keys: Whether requests need a key; else the document asks for none.
    """

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _complete(made, with_keys)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(document: dict[str, Any], with_keys: bool) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            # What FastAPI says of its own refusals: they are told in our forms, with 400 or, in TEI's dialect, 422.
            if "HTTPValidationError" in str(answers.get("422")):
                del answers["422"]
            for status in _common(path, operation):
                answers.setdefault(str(status), _refusal(path, method, status))
            for status, headers in _HEADERS.items():
                if str(status) in answers:
                    answers[str(status)].setdefault("headers", headers)
            operation["responses"] = dict(sorted(answers.items()))
            if not with_keys:
                operation.pop("security", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _common(path: str, operation: dict[str, Any]) -> tuple[int, ...]:
    if path in _OPEN:
        return ()
    return (403, *(_OF_BODIES if "requestBody" in operation else ()))


def _refusal(path: str, method: str, status: int) -> dict[str, Any]:
    in_theirs = form_path(method.upper(), path) in TEI_PATHS
    told = (teierrors if in_theirs else documented).failures(status)[status]
    schema = {"$ref": f"#/components/schemas/{told['model'].__name__}"}
    return {"description": told["description"], "content": {"application/json": {"schema": schema}}}
