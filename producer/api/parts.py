"""Jobs that are submitted part by part and sealed, so that a cut connection costs one part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from producer.api.auth import Caller, Reader, Writer
from producer.api.bodies import JSON, NDJSON, parsed, read_body, require_media_type
from producer.api.documented import NDJSON_BODY, failures, inlined
from producer.api.native import JobId, submitted
from producer.api.schemas import FieldsInQuery, SealIn
from producer.api.service import Service, ServiceDep
from producer.api.told import PartAdded, PartList, SubmittedView
from producer.api.uploading import taken_in
from producer.api.views import found

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["parts"])

#: Most parts of a job: far more than anybody sends.
_MOST_PARTS = 1_000_000

#: Longest body of a request to seal, in bytes.
_MOST_SEALING = 10_000


@router.put(
    "/parts/{number}",
    operation_id="put_part",
    summary="Send the part that is due; it is there as a whole or not at all",
    response_model=PartAdded,
    responses=failures(404, 408, 409, 413, 415, 507),
    openapi_extra={"requestBody": NDJSON_BODY},
)
async def put_part(
    request: Request,
    service: ServiceDep,
    caller: Writer,
    job_id: JobId,
    number: Annotated[int, Path(ge=0, lt=_MOST_PARTS, description="Its number: 0, 1, 2 and so on.")],
    query: Annotated[FieldsInQuery, Query()],
) -> dict[str, Any]:
    """Take NDJSON, each line a string or an object with `text`; the same part with the same bytes again is no error."""
    require_media_type(request, *NDJSON)

    def take(blocks: Iterator[bytes]) -> dict[str, Any]:
        job = found(service, caller, job_id)
        part = service.parting.put(job.id, number, blocks, query.text_field, query.id_field)
        return {
            "part": part.number,
            "items": part.items,
            "first": part.first,
            "next": service.stores.parts.next(job.id),
        }

    return await taken_in(caller.key_id, request.stream(), take)


@router.get(
    "/parts",
    operation_id="list_parts",
    summary="See which parts are there and which one is due",
    response_model=PartList,
    responses=failures(404, 409),
)
def list_parts(service: ServiceDep, caller: Reader, job_id: JobId) -> dict[str, Any]:
    """Return what is there of a job that is, or was, submitted in parts."""
    parts = service.stores.parts.list(found(service, caller, job_id).id)
    return {
        "next": len(parts),
        "items": sum(part.items for part in parts),
        "parts": [
            {"part": part.number, "items": part.items, "first": part.first, "sha256": part.sha256} for part in parts
        ],
    }


@router.post(
    "/seal",
    status_code=202,
    operation_id="seal_job",
    summary="Accept a job with the parts that are there",
    response_model=SubmittedView,
    responses=failures(404, 408, 409, 413, 415, 507),
    openapi_extra={"requestBody": {"required": False, "content": {JSON: {"schema": inlined(SealIn)}}}},
)
async def seal(request: Request, service: ServiceDep, caller: Writer, job_id: JobId) -> Response:
    """Seal a job; how many parts and items there should be may be told, and is then checked. Twice is no error."""
    body = await read_body(request, _MOST_SEALING)
    if body:
        require_media_type(request, JSON)
    return await run_in_threadpool(_seal, service, caller, job_id, body)


def _seal(service: Service, caller: Caller, job_id: str, body: bytes) -> Response:
    wanted = parsed(body or b"{}", SealIn)
    job = found(service, caller, job_id)
    if service.stores.parts.seal(job.id, wanted.parts, wanted.items):
        service.client.send(job)
    return submitted(service, job.id, job.notice)
