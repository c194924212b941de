"""The interactive description of the API: made of its OpenAPI document, with nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader

import producer.web

router = APIRouter(include_in_schema=False)

_STATIC = Path(producer.web.__file__).parent / "static"
_KINDS = {"docs.css": "text/css; charset=utf-8", "docs.js": "text/javascript; charset=utf-8"}


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """Show every route, what it takes and what it answers, with a form to try it."""
    document = request.app.openapi()
    return HTMLResponse(_template().render(version=document["info"]["version"], tags=_by_tag(document)))


@router.get("/docs/docs.css")
def style() -> Response:
    """Return the style of the description."""
    return _asset("docs.css")


@router.get("/docs/docs.js")
def script() -> Response:
    """Return what sends the forms of the description."""
    return _asset("docs.js")


def _asset(name: str) -> Response:
    return Response((_STATIC / name).read_bytes(), media_type=_KINDS[name], headers={"Cache-Control": "no-cache"})


@cache
def _template() -> Any:
    environment = Environment(loader=PackageLoader("producer.web"), autoescape=True, trim_blocks=True)
    return environment.get_template("docs.html")


def _by_tag(document: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["others"])[0]
            found[tag].append(_operation(document, path, method, operation))
    return list(found.items())


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    media = "application/json" if "application/json" in content else next(iter(content), "")
    return {
        "id": operation.get("operationId", f"{method}-{path}"),
        "path": path,
        "method": method,
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "parameters": [
            {
                "name": parameter["name"],
                "place": parameter["in"],
                "required": parameter.get("required", False),
                "description": parameter.get("description", ""),
            }
            for parameter in operation.get("parameters", ())
        ],
        "media": media,
        "body": _example(document, content.get(media, {})),
        "answers": [
            {"status": status, "description": answer.get("description", "")}
            for status, answer in operation.get("responses", {}).items()
        ],
    }


def _example(document: dict[str, Any], content: dict[str, Any]) -> str:
    """Return a body to begin with: the example there is, else the examples of the needed fields."""
    if "example" in content:
        return _written(content["example"])
    for example in content.get("examples", {}).values():
        return _written(example.get("value"))
    schema = content.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for example in schema.get("examples", ()):
        return _written(example)
    fields = schema.get("properties", {})
    needed = [name for name in fields if fields[name].get("examples") or name in schema.get("required", ())]
    return _written({name: next(iter(fields[name].get("examples", ())), "") for name in needed[:3]})


def _written(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
