"""How errors are shown in the OpenAPI document: one form, named by their statuses."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from producer.api.bodies import JSON, NDJSON
from producer.api.schemas import JobIn

_WHEN = {
    400: "Something in the request is missing or not allowed; `param` says what, `problems` which items.",
    401: "An API key is needed, and none that is good was given.",
    403: "The API key lacks the scope.",
    404: "There is nothing of this id, or it is somebody else's.",
    408: "The body stopped coming, or comes too slowly.",
    409: "It does not fit the state that things are in.",
    413: "The body, a text, a part or the number of items is over a limit.",
    415: "The body is of a media type that is not read here, or compressed.",
    416: "The range begins behind the end.",
    422: "The idempotency key was used before, with another payload.",
    429: "A quota is used up, or there is no room now; `Retry-After` says when to come again.",
    503: "Something that the service stands on is away; `Retry-After` says when to come again.",
    504: "It was not done in time.",
    507: "The disk is full.",
}


class ProblemView(BaseModel):
    """One invalid item."""

    position: int = Field(description="Its place in what was sent, from 0.")
    where: str = Field(description="The same for a person, such as `line 7`.")
    reason: str


class ErrorView(BaseModel):
    """What went wrong and what to do."""

    message: str
    type: str
    param: str | None = Field(description="The parameter that is to blame.")
    code: str = Field(description="A stable word for programs.")
    remedy: str | None = Field(description="What to do about it.")
    problems: list[ProblemView] | None = Field(None, description="The first hundred invalid items.")
    problem_count: int | None = Field(None, description="How many items are invalid.")


class ErrorBody(BaseModel):
    """The answer to a request that failed."""

    error: ErrorView


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may fail so; 400, 401, 403, 429 and 503 are always among them.

    Args:
        *statuses: The others.
    """
    return {
        status: {"model": ErrorBody, "description": _WHEN[status]}
        for status in sorted({400, 401, 403, 429, 503, *statuses})
    }


def linked(status: int, parameter: str, *operations: str, field: str = "id") -> dict[int | str, dict[str, Any]]:
    """Return how a route documents that an id it answers is what others take.

    Args:
        status: What it answers then.
        parameter: What they call the id.
        *operations: Those routes.
        field: Where in the answer the id is, as a JSON pointer without its first slash.
    """
    return {status: {"links": _links(*operations, parameter=parameter, field=field)}}


def _links(*operations: str, parameter: str = "job_id", field: str = "id") -> dict[str, Any]:
    taken = f"$response.body#/{field}"
    return {name: {"operationId": name, "parameters": {parameter: taken}} for name in operations}


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a body that is read by hand, without references to other schemas."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(definitions[node["$ref"].rsplit("/", 1)[-1]])
            return {name: resolved(value) for name, value in node.items()}
        return [resolved(value) for value in node] if isinstance(node, list) else node

    found: dict[str, Any] = resolved(schema)
    return found


_NDJSON = {"schema": {"type": "string"}, "example": '{"id": "mill", "text": "Mill."}\n{"id": "rye", "text": "Rye."}\n'}

#: Where one goes on from an answer that holds a job's status.
JOB_LINKS: dict[str, Any] = _links(
    "get_job", "get_results", "get_item_at", "follow_job", "job_webhooks", "cancel_job", "retry_job", "delete_job"
)
JOB_LINKS["get_item_at"]["parameters"]["position"] = 0
PARTS_LINKS: dict[str, Any] = _links("put_part", "list_parts", "seal_job")
PARTS_LINKS["put_part"]["parameters"]["number"] = 0

#: The body that a part has.
NDJSON_BODY: dict[str, Any] = {"required": True, "content": {kind: _NDJSON for kind in NDJSON[:1]}}

#: Where the texts of a job may be.
_ONE_OF = {"anyOf": [{"required": [where]} for where in ("texts", "items", "parts")]}

#: The bodies that a job may be submitted as.
JOB_BODY: dict[str, Any] = {
    "required": True,
    "content": {JSON: {"schema": inlined(JobIn) | _ONE_OF, "example": {"texts": ["The mill grinds.", "Rye."]}}}
    | NDJSON_BODY["content"],
}
