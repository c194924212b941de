"""What our own routes answer, typed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

State = Literal["accepting", "queued", "running", "completed", "failed", "cancelled", "expired"]


class Links(BaseModel):
    """Where to go on."""

    self: str
    results: str
    events: str


class StatusView(BaseModel):
    """Where a job stands; `succeeded + failed + cancelled + pending = total`, always."""

    id: str
    state: State
    model: str
    total: int
    succeeded: int
    failed: int
    cancelled: int
    pending: int
    truncated: int = Field(description="Items with a vector whose text was cut.")
    tokens: int
    tokens_per_second: float | None
    eta_seconds: float | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: dict[str, Any] | None = Field(description="`code` and `message` when the job as a whole failed.")
    waiting_for: str | None = Field(description="What the job waits for and what to do about it.")
    keep_days: float | None = Field(description="Days that it is kept after its end; null: until it is deleted.")
    keep_texts_days: float | None = Field(description="The same for its texts; null: as long as the job.")
    kept_until: str | None = Field(description="When it goes, once it has ended; null: when it is deleted.")
    texts_kept_until: str | None = Field(description="When its texts go, or went.")
    name: str | None
    labels: dict[str, str]
    generation: int = Field(description="How often `retry` sent it round again.")
    queue_position: int | None = Field(description="Jobs of the same model before it, while it is queued.")
    expires_at: str | None
    links: Links


class SubmittedView(StatusView):
    """Where a job stands that was just accepted, or sent round again."""

    notice: str | None = Field(description="What you should know, such as that no worker is there.")


class RetriedView(SubmittedView):
    """Where a job stands that was sent round again, and how much of it."""

    retried: int = Field(description="How many failed items are tried again.")


class JobList(BaseModel):
    """Jobs, newest first."""

    data: list[StatusView]
    has_more: bool
    next: str | None = Field(description="What to give as `before` for the jobs that follow.")


class ItemErrorView(BaseModel):
    """Why an item has no vector."""

    code: str
    message: str


class ItemView(BaseModel):
    """One item and what became of it."""

    position: int
    id: str | None
    status: Literal["succeeded", "failed", "cancelled", "pending"]
    tokens: int = Field(description="Tokens the encoder read.")
    truncated: bool
    vector: list[float] | str | None = Field(description="Numbers, or base64 of little-endian float32.")
    error: ItemErrorView | None


#: The type that a job keeps; numbers are told as float32, which holds all that the other holds.
StoreDtype = Annotated[
    Literal["float32", "float16"], Field(description="The type of the vectors that are kept; they are told as float32.")
]


class ItemFound(ItemView):
    """One item and what became of it, asked for by itself."""

    store_dtype: StoreDtype


class ItemPage(BaseModel):
    """Some items, in submission order."""

    data: list[ItemView]
    next: int | None = Field(description="What to give as `after`; null when the job has ended and all was read.")
    state: State
    generation: int
    store_dtype: StoreDtype


class PartView(BaseModel):
    """One part of a job."""

    part: int
    items: int
    first: int = Field(description="Position of its first item in the job.")
    sha256: str


class PartAdded(BaseModel):
    """A part that is safe."""

    part: int
    items: int
    first: int
    next: int = Field(description="Number of the part that is due.")


class PartList(BaseModel):
    """What is there of a job that is submitted in parts."""

    next: int
    items: int
    parts: list[PartView]
