"""The OpenAPI document, as it is true: what the framework says of every route and we never answer is taken out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

#: Schemas of the framework's own answer to bad input; ours is another, with another status.
_FOREIGN = ("HTTPValidationError", "ValidationError")


def install_document(app: FastAPI) -> None:
    """Let an app show its document without what is never answered."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _mend(made())
        return made()

    app.openapi = openapi  # type: ignore[method-assign]


def _mend(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            told = operation["responses"].get("422", {})
            if _FOREIGN[0] in str(told.get("content")):
                del operation["responses"]["422"]
    for name in _FOREIGN:
        document.get("components", {}).get("schemas", {}).pop(name, None)
