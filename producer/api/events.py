"""Server-sent events: where a job stands, as often as that changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from producer.api.auth import Caller, Reader, caller_of
from producer.api.documented import failures
from producer.api.service import Service, ServiceDep
from producer.api.shares import Shares
from producer.api.streams import end_id
from producer.api.views import found, status_view
from storage.contract.states import FINAL_JOB_STATES, JobState

router = APIRouter(tags=["jobs"])

_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["status", "end"]},
        "id": {"type": "string"},
        "retry": {"type": "integer"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_EXAMPLE = 'id: 1\nevent: status\ndata: {"id":"0197...","state":"running","total":2,"succeeded":1}\n\n'


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Follow a job",
    operation_id="follow_job",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`status` whenever the status object changed, at most once a second; `end` with the last"
            " one, then the stream ends. Comments keep it alive in between.",
            "content": {"text/event-stream": {"itemSchema": _EVENT, "example": _EXAMPLE}},
        },
        204: {"description": "The job's `end` was read already."},
        **failures(404),
    },
)
async def follow_job(
    request: Request,
    job_id: str,
    caller: Reader,
    service: ServiceDep,
    last_event_id: Annotated[
        str | None,
        Header(
            description="The id of the last event that was read. A stream begins with what holds now; after `end`, 204."
        ),
    ] = None,
) -> Response:
    """Tell where a job stands until it has ended."""
    service.streams.places.check(caller.key_id)
    status, ended = await run_in_threadpool(_first_look, service, job_id, caller)
    if ended and last_event_id == end_id(status):
        # A browser comes back for ever after a stream has ended, unless it is told so.
        return Response(status_code=204)
    events = service.streams.follow(status["id"], status, ended, lambda: caller_of(request))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _Following(service.streams.places, caller.key_id, events, headers)


class _Following(StreamingResponse):
    """A stream that is over for us the moment it is over for its reader."""

    def __init__(self, places: Shares, key_id: str, events: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._places = places
        self._key_id = key_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, if there is still a place: others may have come since it was asked last."""
        with self._places.place(self._key_id):
            try:
                await super().__call__(scope, receive, send)
            finally:
                # Else its job would be looked at until memory is tidied up.
                if isinstance(self.body_iterator, AsyncGenerator):
                    await self.body_iterator.aclose()


def look(service: Service, job_id: str) -> tuple[dict[str, Any], bool]:
    """Return a job's status object, and whether it has ended.

    Raises:
        UnknownJob: When it is gone.
        StorageUnavailable: When the database does not answer.
    """
    status = status_view(service, job_id)
    return status, JobState(status["state"]) in FINAL_JOB_STATES


def _first_look(service: Service, job_id: str, caller: Caller) -> tuple[dict[str, Any], bool]:
    return look(service, found(service, caller, job_id).id)
