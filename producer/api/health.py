"""Health: `/healthz` (it runs), `/readyz` (it can serve), `/metrics`; open to all, they tell of no text and no job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import httpx
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from producer.api.documented import failures
from producer.api.service import Service, ServiceDep
from storage.contract.errors import EmbedmillError
from storage.exposition import CONTENT_TYPE

router = APIRouter(tags=["operations"])

#: How long the supervisor beside the service may take to answer, in seconds.
_MACHINE = 2.0

_STATUS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}, "required": ["status"]}

Exclude = Annotated[Literal["workers"] | None, Query(description="What need not be ready.")]


def _answers(status: int, what: str, example: dict[str, str]) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": _STATUS, "example": example}}
    return {status: {"description": what, "content": content}}


@router.get(
    "/healthz",
    summary="Whether the service runs",
    operation_id="health",
    response_class=JSONResponse,
    responses=_answers(200, "It does.", {"status": "alive"}),
)
async def health() -> Response:
    """Answer, which is all there is to it."""
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz",
    summary="Whether jobs are taken and done",
    operation_id="readiness",
    response_class=JSONResponse,
    responses=_answers(200, "They are.", {"status": "ready", "storage": "ready", "worker on cpu": "ready"})
    | _answers(503, "Not now.", {"status": "not ready", "storage": "ready", "worker": "none serves a model"})
    | {400: failures()[400]},
)
def readiness(service: ServiceDep, exclude: Exclude = None) -> Response:
    """Tell of storage, and of workers that serve a model.

    Where workers come with the work, as under an autoscaler, jobs must be taken while there are none: whoever decides
    where requests go asks with `exclude=workers`.
    """
    parts: dict[str, str] = {}
    ready = _storage_is_ready(service, parts) and (exclude == "workers" or _worker_is_ready(service, parts))
    return JSONResponse({"status": "ready" if ready else "not ready", **parts}, 200 if ready else 503)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    operation_id="metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        503: failures()[503],
    },
)
def metrics(service: ServiceDep) -> Response:
    """Tell the service's own figures and those of the whole installation."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _storage_is_ready(service: Service, parts: dict[str, str]) -> bool:
    try:
        service.stores.database.check_schema(running=True)
        service.stores.files.check_room()
    except EmbedmillError as error:
        parts["storage"] = error.message
        return False
    parts["storage"] = "ready"
    return True


def _worker_is_ready(service: Service, parts: dict[str, str]) -> bool:
    if service.settings.machine is not None:
        return _machine_is_ready(service.settings.machine, parts)
    devices = service.stores.workers.devices()
    parts.update({f"worker on {device}": "ready" for device in devices} or {"worker": "none serves a model"})
    return bool(devices)


def _machine_is_ready(machine: str, parts: dict[str, str]) -> bool:
    """Ask the supervisor beside the service, which sees a worker's death at once and knows why one cannot start."""
    try:
        told = httpx.get(f"{machine}/readyz", timeout=_MACHINE, trust_env=False)
        parts.update({name: word for name, word in told.json().items() if name not in ("status", "storage")})
    except (httpx.HTTPError, ValueError):
        parts["supervisor"] = "does not answer"
        return False
    return told.status_code == 200
