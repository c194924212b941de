"""Keys over HTTP, for an admin's key; where no keys are used, the operator may prepare some."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from producer.api.auth import Admin
from producer.api.documented import failures, linked
from producer.api.schemas import Days
from producer.api.service import ServiceDep
from storage.contract.keeping import Keeping
from storage.quotas import Quota

router = APIRouter(tags=["keys"])

Scope = Literal["read", "write", "embed", "admin"]
Limit = Annotated[int | None, Field(ge=1, le=10**15)]
KeyId = Annotated[
    str, Path(description="The key's id: what stands between `em_` and `_` in it.", examples=["mfrggzdfmztwq2lk"])
]

_USUAL: list[Scope] = ["read", "write", "embed"]

_EXAMPLE: dict[str, Any] = {
    "id": "mfrggzdfmztwq2lk",
    "name": "nightly import",
    "scopes": ["read", "write", "embed"],
    "created_at": "2026-11-28T13:00:00.000Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "max_texts": 1_000_000,
    "max_jobs": 10,
    "tokens_per_minute": None,
    "max_stored_bytes": 10_000_000_000,
    "keep_days": 90.0,
    "keep_texts_days": 7.0,
}


class NewKey(BaseModel):
    """What a key is to be."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [{"name": "nightly import"}]})
    name: str = Field(
        min_length=1,
        max_length=200,
        description="What a person calls it; not blank.",
        json_schema_extra={"pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"},
    )
    scopes: list[Scope] = Field(
        _USUAL,
        min_length=1,
        max_length=16,
        description="What it may do; `admin` may do everything and sees everybody's jobs.",
    )
    expires_in: float | None = Field(
        None, gt=0, le=10 * 366 * 86_400, description="Seconds after which it ends by itself; null: never."
    )
    max_texts: Limit = Field(None, description="Most texts that are kept for it; null: any number.")
    max_jobs: Limit = Field(None, description="Most jobs of it that have not ended; null: any number.")
    tokens_per_minute: Limit = Field(None, description="Most tokens a minute, on the average; null: any number.")
    max_stored_bytes: Limit = Field(None, description="Most bytes of files that are kept for it; null: any number.")
    keep_days: Days | None = Field(
        None,
        description="Days that its ended jobs are kept, at most and by default; null: as the service, or a job, says.",
    )
    keep_texts_days: Days | None = Field(None, description="The same for their texts.")


class Key(BaseModel):
    """What is known of a key; never its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})
    id: str
    name: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    max_texts: int | None
    max_jobs: int | None
    tokens_per_minute: int | None
    max_stored_bytes: int | None
    keep_days: float | None
    keep_texts_days: float | None


class CreatedKey(Key):
    """A key that was just made, with the only showing of its secret."""

    key: str = Field(description="The key itself: keep it now, nobody can tell it again.")


class KeyList(BaseModel):
    """Every key, oldest first."""

    data: list[Key]


@router.post(
    "/v1/keys",
    operation_id="create_key",
    summary="Make an API key; its secret is told this once",
    status_code=201,
    responses=linked(201, "key_id", "revoke_key") | failures(507),
)
def create_key(new: NewKey, caller: Admin, service: ServiceDep, response: Response) -> CreatedKey:
    """Make an API key; what it is shown as here is kept nowhere."""
    keeping = Keeping(new.keep_days, new.keep_texts_days)
    quota = Quota(new.max_texts, new.max_jobs, new.tokens_per_minute, new.max_stored_bytes)
    record, key = service.stores.keys.create(new.name, new.scopes, new.expires_in, quota, keeping)
    response.headers["Cache-Control"] = "no-store"
    return CreatedKey(key=key, **record.to_dict())


@router.get("/v1/keys", operation_id="list_keys", summary="List all API keys", responses=failures())
def list_keys(caller: Admin, service: ServiceDep) -> KeyList:
    """List all API keys, the revoked and expired ones too, without their secrets."""
    return KeyList(data=[Key(**record.to_dict()) for record in service.stores.keys.all()])


@router.delete(
    "/v1/keys/{key_id}",
    operation_id="revoke_key",
    summary="Revoke an API key",
    status_code=204,
    responses=failures(404, 507),
)
def revoke_key(key_id: KeyId, caller: Admin, service: ServiceDep) -> None:
    """End a key for ever, everywhere within 5 s; its jobs go on and stay. Revoked twice is no error."""
    service.stores.keys.revoke(key_id)
    service.keys.forget(key_id)
