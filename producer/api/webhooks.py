"""Webhooks: where a job's end is told to, how far that is, and the secret that it is signed with."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from producer.api.auth import Reader, Writer
from producer.api.documented import failures
from producer.api.service import ServiceDep
from producer.api.views import found
from storage.moments import iso
from storage.webhooks import Webhook

router = APIRouter(tags=["webhooks"])


class WebhookState(BaseModel):
    """How far the telling of a job's end to one address is."""

    id: str
    url: str
    state: Literal["waiting", "pending", "delivered", "failed"] = Field(
        description="`waiting` for the job's end; `pending`: being told, or to be tried again; `failed`: given up."
    )
    message_id: str | None = Field(description="The `webhook-id` of the message; the same for each try.")
    attempts: int
    next_attempt_at: str | None
    last_status: int | None = Field(description="What the last try was answered with.")
    last_error: str | None
    delivered_at: str | None


class Webhooks(BaseModel):
    """The webhooks of a job."""

    data: list[WebhookState]


class Secret(BaseModel):
    """A secret of webhooks, shown this once."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


@router.get(
    "/v1/jobs/{job_id}/webhooks",
    summary="How far the telling of a job's end is",
    operation_id="job_webhooks",
    responses=failures(404),
)
def job_webhooks(job_id: str, caller: Reader, service: ServiceDep) -> Webhooks:
    """List the addresses that a job's end is told to."""
    job = found(service, caller, job_id)
    return Webhooks(data=[_state(webhook) for webhook in service.stores.webhooks.of_job(job.id)])


@router.post(
    "/v1/webhooks/secret",
    status_code=201,
    summary="Make a new secret for webhooks",
    operation_id="new_webhook_secret",
    responses=failures(507),
)
def new_secret(caller: Writer, service: ServiceDep) -> Secret:
    """Show, this once, what signs webhooks of the caller's jobs from now on; the old one is good for a day."""
    return Secret(secret=service.stores.webhooks.rotate(caller.key_id))


def _state(webhook: Webhook) -> WebhookState:
    same = {name: getattr(webhook, name) for name in _SAME}
    times = {"next_attempt_at": iso(webhook.next_at), "delivered_at": iso(webhook.delivered_at)}
    return WebhookState.model_validate(same | times)


#: Fields that are shown as they are kept.
_SAME = ("id", "url", "state", "message_id", "attempts", "last_status", "last_error")
