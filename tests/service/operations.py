"""Every operation of the service as its OpenAPI document has it, and requests that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

#: What is sent where a route reads a body of a kind, when the document shows no example of it.
_BODIES = {"application/x-ndjson": b'"wheat"\n', "application/octet-stream": b"wheat"}

_METHODS = ("get", "head", "post", "put", "patch", "delete")


@dataclass(frozen=True, repr=False)
class Operation:
    """One method of one path.

    Args:
        method: In capitals.
        path: With its parameters in braces.
        told: What the document says of it.
        document: The whole document.
    """

    method: str
    path: str
    told: dict[str, Any]
    document: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def needs_key(self) -> bool:
        """Whether the document says that a key is needed."""
        return bool(self.told.get("security"))

    @property
    def parameters(self) -> list[str]:
        """The names of what stands in its path."""
        return [one["name"] for one in self._all_parameters() if one["in"] == "path"]

    def cursors(self) -> list[str]:
        """Return the query's parameters that name where a list goes on."""
        return [one["name"] for one in self._all_parameters() if one["in"] == "query" and one["name"] in _CURSORS]

    @property
    def named_in_body(self) -> list[str]:
        """The fields of its JSON body that name something by its id."""
        content = self._resolved(self.told.get("requestBody", {})).get("content", {})
        schema = self._resolved(content.get("application/json", {}).get("schema", {}))
        return [name for name in schema.get("properties", {}) if name.endswith(("_id", "_ids"))]

    def send(
        self,
        http: httpx.Client,
        values: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request that fits it and return the answer; of a stream of events only the head.

        Args:
            http: With a key or without.
            values: What stands in its path, by name.
            query: Beside what is required.
            body: Fields of its JSON body that are to be others than in the document's example.
        """
        path = self.path
        for name in self.parameters:
            path = path.replace("{" + name + "}", values[name])
        sent = self._body()
        if body:
            sent["json"] = sent["json"] | body
        request = http.build_request(self.method, path, params=self._query() | dict(query or {}), **sent)
        answer = http.send(request, stream=True)
        try:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                answer.read()
        finally:
            answer.close()
        return answer

    def _all_parameters(self) -> list[dict[str, Any]]:
        return [self._resolved(one) for one in self.told.get("parameters", [])]

    def _query(self) -> dict[str, str]:
        needed = [one for one in self._all_parameters() if one["in"] == "query" and one.get("required")]
        return {one["name"]: "0" if one["schema"].get("type") == "integer" else "wheat" for one in needed}

    def _body(self) -> dict[str, Any]:
        content = self._resolved(self.told.get("requestBody", {})).get("content", {})
        for kind, told in content.items():
            if kind == "multipart/form-data":
                return {
                    "files": {"file": ("wheat.jsonl", b"{}"), "data": ("wheat", b"{}")},
                    "data": {"purpose": "batch"},
                }
            if kind == "application/json":
                return {"json": self._example(told)}
            return {"content": _BODIES.get(kind, b"wheat"), "headers": {"Content-Type": kind}}
        return {}

    def _example(self, told: dict[str, Any]) -> Any:
        if "example" in told:
            return told["example"]
        for one in told.get("examples", {}).values():
            return self._resolved(one).get("value")
        schema = self._resolved(told.get("schema", {}))
        return next(iter(schema.get("examples", [])), schema.get("example", {}))

    def _resolved(self, told: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in told:
            found: Any = self.document
            for step in told["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            told = found
        return told


_CURSORS = ("before", "after")


def operations(document: dict[str, Any]) -> list[Operation]:
    """Return all operations of a document."""
    return [
        Operation(method.upper(), path, told, document)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
        if method in _METHODS
    ]
