"""One job: where it stands, how fast it went, what failed, what may be done with it, and its downloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from producer.api.auth import owned
from producer.api.errors import status_of
from producer.api.service import Service, ServiceDep
from producer.exports import FORMATS
from producer.job import Job
from producer.web.formreading import form_of
from producer.web.pictures import bars
from producer.web.rendering import page
from producer.web.routes import PageRoute
from producer.web.visitors import Visitor, VisitorDep, check_form
from storage.contract.errors import WrongState
from storage.contract.states import JobState
from storage.statuses import JobStatus

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Failed items shown; all of them can be downloaded.
_FAILURES = 50

_MEANINGS = {
    "npy": "NumPy matrix",
    "npz": "NumPy, with ids",
    "jsonl": "JSON lines",
    "arrow": "Arrow file",
    "parquet": "Parquet",
}


def _job_of(job_id: str, service: ServiceDep, visitor: VisitorDep) -> Job:
    visitor.caller.require("read")
    return owned(service.client.job(job_id), visitor.caller)


JobDep = Annotated[Job, Depends(_job_of)]


@router.get("/jobs/{job_id}")
def show(request: Request, service: ServiceDep, visitor: VisitorDep, job: JobDep) -> Response:
    """Show one job."""
    return _page(request, service, visitor, job)


@router.post("/jobs/{job_id}/cancel")
async def cancel(request: Request, service: ServiceDep, visitor: VisitorDep, job: JobDep) -> Response:
    """Cancel the job and show it."""
    return await _act(request, service, visitor, job, job.cancel, f"/jobs/{job.id}")


@router.post("/jobs/{job_id}/retry")
async def retry(request: Request, service: ServiceDep, visitor: VisitorDep, job: JobDep) -> Response:
    """Try the failed items again and show the job."""
    return await _act(request, service, visitor, job, job.retry_failed, f"/jobs/{job.id}")


@router.post("/jobs/{job_id}/delete")
async def delete(request: Request, service: ServiceDep, visitor: VisitorDep, job: JobDep) -> Response:
    """Delete the job and show the others."""
    return await _act(request, service, visitor, job, job.delete, "/")


async def _act(
    request: Request, service: Service, visitor: Visitor, job: Job, action: Callable[[], object], then: str
) -> Response:
    visitor.caller.require("write")
    async with form_of(request, service) as form:
        await run_in_threadpool(check_form, request, service, form)
    try:
        await run_in_threadpool(action)
    except WrongState as error:
        # It has moved on since the page was made: what it is now stands below the reason.
        return await run_in_threadpool(_page, request, service, visitor, job, error)
    return RedirectResponse(then, 303)


def _page(request: Request, service: Service, visitor: Visitor, job: Job, error: WrongState | None = None) -> Response:
    record, status = job.record(), job.status()
    throughput = service.stores.throughputs.get(job.id)
    failures = service.stores.failures.first(job.id, _FAILURES) if status.failed else []
    values: dict[str, Any] = {
        "record": record,
        "status": status,
        "options": _options(record.options),
        "picture": bars(throughput) if throughput is not None and len(throughput.tokens) > 1 else None,
        "failures": failures,
        "downloads": _downloads(status),
        "can_retry": status.state == JobState.COMPLETED and status.failed > 0,
        "error": error,
        "now": service.stores.database.clock.now(),
    }
    return page(request, "job", visitor=visitor, code=200 if error is None else status_of(error), **values)


def _options(options: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a job's options as a person reads them; what was left to the model is not listed."""
    words = {True: "yes", False: "no"}
    told = {name: words.get(value, value) if isinstance(value, bool) else value for name, value in options.items()}
    return [(name.replace("_", " "), str(value)) for name, value in told.items() if value is not None]


def _downloads(status: JobStatus) -> list[tuple[str, str, str]]:
    """Return format, meaning and address of each download of an ended job."""
    if not status.is_final or status.state == JobState.FAILED:
        return []
    return [(format, _MEANINGS[format], f"/v1/jobs/{status.id}/results?format={format}") for format in FORMATS]
