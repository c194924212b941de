"""The list of jobs, and the form that submits one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from producer.api import uploading
from producer.api.errors import status_of
from producer.api.service import Service, ServiceDep
from producer.api.workers import overview
from producer.job import Job
from producer.web.formreading import form_of
from producer.web.forms import FIELDS, Submitted
from producer.web.rendering import page
from producer.web.routes import PageRoute
from producer.web.visitors import Visitor, VisitorDep, check_form, check_origin
from storage.contract.errors import EmbedmillError, InvalidField, InvalidItems
from storage.contract.ids import checked_job_id
from storage.contract.states import JobState
from storage.jobfilter import JobFilter

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Jobs on one page.
_LIMIT = 20

#: States that a list may be narrowed to, as they are offered.
_FILTERS = (
    JobState.RUNNING,
    JobState.QUEUED,
    JobState.ACCEPTING,
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.EXPIRED,
    JobState.CANCELLED,
)

#: Fields of the form that are always in sight, or always filled in.
_SHOWN = {"texts", "name", "model", "priority", "on_invalid", "on_long", "store_dtype"}


@router.get("/")
def show(request: Request, service: ServiceDep, visitor: VisitorDep) -> Response:
    """Show the newest jobs, and the form."""
    return _page(request, service, visitor)


@router.post("/jobs")
async def submit(request: Request, service: ServiceDep, visitor: VisitorDep) -> Response:
    """Submit what the form holds and show the new job; what is refused comes back with the reason."""
    # Before anything is read of it: a form may be large.
    check_origin(request)
    visitor.caller.require("write")
    with uploading.places.place(visitor.caller.key_id):
        async with form_of(request, service, visitor.caller.key_id) as form:
            await run_in_threadpool(check_form, request, service, form)
            submitted = Submitted.of(form)
            try:
                job = await run_in_threadpool(_submit, service, visitor, submitted)
            except EmbedmillError as error:
                return await run_in_threadpool(_page, request, service, visitor, submitted.given, error)
    return RedirectResponse(f"/jobs/{job.id}", 303)


def _submit(service: Service, visitor: Visitor, submitted: Submitted) -> Job:
    return service.client.submit_records(key_id=visitor.caller.key_id, **submitted.submission())


def _page(
    request: Request,
    service: Service,
    visitor: Visitor,
    given: dict[str, str] | None = None,
    error: EmbedmillError | None = None,
) -> Response:
    wanted = request.query_params.get("state", "")
    model = request.query_params.get("model") or None
    before = request.query_params.get("before")
    visitor.caller.require("read")
    if wanted and wanted not in _FILTERS:
        raise InvalidField("state", "There is no such state of a job.", "Choose one of the filters above the list.")
    ids = service.stores.jobs.list_ids(
        _LIMIT + 1,
        checked_job_id(before) if before else None,
        JobFilter(states=[wanted] if wanted else None, model=model),
        key_id=visitor.caller.sees,
    )
    values: dict[str, Any] = {
        "statuses": service.stores.statuses.many(ids[:_LIMIT]),
        "older": ids[_LIMIT - 1] if len(ids) > _LIMIT else None,
        "filters": _FILTERS,
        "wanted": wanted,
        "model": model,
        "before": before,
        "overview": overview(service),
        "default_model": service.settings.model,
        "usual_days": "for ever" if service.settings.keep_days is None else f"{service.settings.keep_days:g}",
        "given": dict.fromkeys(FIELDS, "") | (given or {}),
        "is_open": bool(given and given.keys() - _SHOWN),
        "now": service.stores.database.clock.now(),
        "error": error,
        "problems": error.problems[:10] if isinstance(error, InvalidItems) else [],
    }
    return page(request, "jobs", visitor=visitor, code=status_of(error) if error else 200, **values)
