"""Our own routes: submit jobs, list them, see where they stand, cancel, retry and delete them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from producer.api.auth import Caller, Reader, Writer
from producer.api.bodies import JSON, NDJSON, parsed, read_body, require_media_type
from producer.api.documented import JOB_BODY, JOB_LINKS, PARTS_LINKS, failures, linked
from producer.api.listing import JobsInQuery, said_once
from producer.api.schemas import AskedInQuery, JobIn
from producer.api.service import Service, ServiceDep
from producer.api.submitting import KEY_PATTERN, idempotency_key, merged, open_parts, submit_items, submit_records
from producer.api.told import JobList, RetriedView, StatusView, SubmittedView
from producer.api.uploading import taken_in
from producer.api.views import found, status_view, status_views
from producer.ndjson import NdjsonRecords
from storage.contract.errors import TooLarge

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

#: The id of a job in a route's path.
JobId = Annotated[str, Path(description="The job's id, a UUIDv7.", max_length=100)]


_LOCATION = {"Location": {"description": "The job's path.", "schema": {"type": "string"}}}


@router.post(
    "",
    status_code=202,
    operation_id="submit_job",
    summary="Submit texts; when this returns, every one of them is safe",
    response_model=SubmittedView,
    responses={
        202: {"description": "Every text is safe.", "links": JOB_LINKS, "headers": _LOCATION},
        201: {
            "model": SubmittedView,
            "description": "It takes parts.",
            "links": PARTS_LINKS | JOB_LINKS,
            "headers": _LOCATION,
        },
        **failures(404, 408, 409, 413, 415, 422, 507),
    },
    openapi_extra={"requestBody": JOB_BODY},
)
async def submit(
    request: Request,
    service: ServiceDep,
    caller: Writer,
    query: Annotated[AskedInQuery, Query()],
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Makes sending again safe.",
            json_schema_extra={"pattern": KEY_PATTERN, "examples": ['"8e03978e-40d5"']},
        ),
    ] = None,
) -> Response:
    """Submit JSON with `texts` or `items`, or NDJSON of any length, each line a string or an object with `text`.

    With `parts` a job is only opened; its texts follow part by part, and it is then sealed.
    Lines that a key may submit only a little later are kept, and the answer waits for that, up to a quarter of an hour,
    and no longer than others leave room.
    What is not in the body may stand in the query. The same Idempotency-Key and payload give the same job.
    """
    known = idempotency_key(key)
    if require_media_type(request, JSON, *NDJSON) == JSON:
        body = await read_body(request, service.settings.max_body_bytes)
        return await run_in_threadpool(_submit_json, service, caller, body, query, known)
    asked = merged(query, JobIn.model_validate({}))

    def take(blocks: Iterator[bytes]) -> Response:
        records = NdjsonRecords(blocks, query.text_field, query.id_field)
        job = submit_records(service, caller, asked, known, records, records.with_ids)
        return submitted(service, job.id, job.notice)

    return await taken_in(caller.key_id, request.stream(), take, request.is_disconnected)


@router.get(
    "",
    operation_id="list_jobs",
    summary="List jobs, newest first",
    response_model=JobList,
    dependencies=[Depends(said_once)],
    responses=linked(200, "job_id", "get_job", field="data/0/id") | failures(),
)
def list_jobs(service: ServiceDep, caller: Reader, asked: Annotated[JobsInQuery, Query()]) -> dict[str, Any]:
    """List the jobs that the key may see."""
    wanted, limit = asked.filter(service.client.named), asked.limit
    ids = service.stores.jobs.list_ids(limit + 1, asked.before, wanted, key_id=caller.sees)
    more = len(ids) > limit
    return {
        "data": status_views(service, ids[:limit]),
        "has_more": more,
        "next": ids[limit - 1] if more else None,
    }


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="See where a job stands",
    response_model=StatusView,
    responses=failures(404),
)
def get_job(service: ServiceDep, caller: Reader, job_id: JobId) -> dict[str, Any]:
    """Return where a job stands now."""
    return status_view(service, found(service, caller, job_id).id)


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=StatusView,
    responses=failures(404, 409, 507),
)
def cancel(service: ServiceDep, caller: Writer, job_id: JobId) -> dict[str, Any]:
    """Cancel what has no outcome yet; vectors and errors that are there stay. Cancelling twice changes nothing."""
    job = found(service, caller, job_id)
    job.cancel()
    return status_view(service, job.id)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    operation_id="retry_job",
    summary="Try the failed items of a completed job again",
    response_model=RetriedView,
    responses=failures(404, 409, 507),
)
def retry(service: ServiceDep, caller: Writer, job_id: JobId) -> dict[str, Any]:
    """Send the failed items round again; vectors stay, and so do items that were refused at the door."""
    job = found(service, caller, job_id)
    items = job.retry_failed()
    return status_view(service, job.id, retried=items, notice=job.notice)


@router.delete(
    "/{job_id}",
    status_code=204,
    operation_id="delete_job",
    summary="Delete a job with its texts and results",
    response_class=Response,
    responses=failures(404, 409, 507),
)
def delete(service: ServiceDep, caller: Writer, job_id: JobId) -> None:
    """Delete a job that has ended, or one whose parts are not sealed; one at work is to be cancelled first."""
    found(service, caller, job_id).delete()


def _submit_json(service: Service, caller: Caller, body: bytes, query: AskedInQuery, key: str | None) -> Response:
    asked = merged(query, parsed(body, JobIn))
    if asked.parts:
        return submitted(service, open_parts(service, caller, asked, key).id, None, 201)
    items = asked.items if asked.items is not None else asked.texts
    if items is not None and len(items) > service.settings.max_items:
        raise TooLarge(
            f"The body has {len(items):,} texts, more than the {service.settings.max_items:,} allowed.",
            "Send them as application/x-ndjson, which may be of any length.",
        )
    job = submit_items(service, caller, asked, key)
    return submitted(service, job.id, job.notice)


def submitted(service: Service, job_id: str, notice: str | None, status: int = 202) -> Response:
    """Return the answer to a submission.

    Args:
        service: Finds the job.
        job_id: Its id.
        notice: What the submitter should know.
        status: 202 when it was accepted, 201 when it takes parts.
    """
    view = status_view(service, job_id, notice=notice)
    return JSONResponse(view, status, headers={"Location": view["links"]["self"]})
