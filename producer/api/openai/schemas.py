"""What OpenAI's dialect says and hears, as types; the `openai` package reads the same."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from producer.api.documented import failures
from producer.api.schemas import NO_NUL, WORDS_BY_NAME


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how a route documents its errors.

    Args:
        *statuses: Those beside 400, 401, 403, 429, 503 and 507, which every route may answer.
    """
    return failures(507, *statuses)


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """The vectors of a request, in the order of its inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelObject(BaseModel):
    """One model, with what is known of it beside OpenAI's fields."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    dimensions: int = Field(description="Components of a vector.")
    max_length: int = Field(description="Most tokens of one text.")
    workers: int = Field(description="Workers that serve it now.")


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class FileObject(BaseModel):
    """One file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"
    sha256: str


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """That a file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ExpiresAfter(BaseModel):
    """How long a file is kept."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class UploadRequest(BaseModel):
    """What a file will be that is sent in parts."""

    filename: Annotated[str, NO_NUL] = Field(min_length=1, max_length=255)
    bytes: int = Field(ge=1, strict=True)
    purpose: Literal["batch"]
    mime_type: str = Field(max_length=255)
    expires_after: ExpiresAfter | None = None

    model_config = {
        "json_schema_extra": {
            "example": {"filename": "b.jsonl", "bytes": 1024, "purpose": "batch", "mime_type": "application/jsonl"}
        }
    }


class UploadObject(BaseModel):
    """A file on its way in."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch"]
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None = None


class UploadPart(BaseModel):
    """One part of it."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class UploadCompletion(BaseModel):
    """The parts in order."""

    part_ids: list[str] = Field(min_length=1, max_length=10_000)
    md5: str | None = Field(default=None, max_length=64)

    model_config = {"json_schema_extra": {"example": {"part_ids": ["part_0123456789abcdef0123456789abcdef"]}}}


MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16), WORDS_BY_NAME]


class BatchRequest(BaseModel):
    """What is to be done, and until when."""

    input_file_id: str = Field(max_length=64)
    endpoint: Literal["/v1/embeddings"]
    completion_window: str = Field(
        default="24h", pattern=r"^([1-9][0-9]?|1[0-5][0-9]|16[0-8])h$", description="Hours: 24h; at most 168h."
    )
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None

    model_config = {
        "json_schema_extra": {
            "example": {
                "input_file_id": "file-0123456789abcdef0123456789abcdef",
                "endpoint": "/v1/embeddings",
                "completion_window": "24h",
            }
        }
    }


class RequestCounts(BaseModel):
    """Lines of a batch."""

    total: int
    completed: int
    failed: int


class BatchError(BaseModel):
    """What is wrong with a line of the input file."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    """All that is wrong with an input file, up to a limit."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class InputDetails(BaseModel):
    """Tokens that were not read again."""

    cached_tokens: int = 0


class OutputDetails(BaseModel):
    """Tokens of reasoning: none."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens that a batch read."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class BatchObject(BaseModel):
    """One batch; times are seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage | None
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """A page of batches."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
