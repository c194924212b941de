"""What is known of a batch, of the groups of its lines, and of each line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch; times are milliseconds since 1970, or None.

    Args:
        id: `batch_` and 32 hexadecimal digits; the later it was made, the greater.
        key_id: Whose it is.
        state: OpenAI's word, but for `cancelling`, which `cancelling_at` says.
        input_file_id: The file of its lines.
        endpoint: Where each line would be sent.
        completion_window: Such as `24h`.
        output_life: Seconds that its output is kept; None: until it is deleted.
        labels: The caller's `metadata`.
        model: The model of its lines, when it is one.
        errors: What was wrong with lines, as `{"data": [...]}`.
        output_file_id: The file of what succeeded.
        error_file_id: The file of what did not.
        total: Its lines; 0 before they were read.
        completed: Lines that succeeded, when it has ended.
        failed: All others, when it has ended.
        tokens: Tokens that were read, when it has ended.
        is_over: Whether its time is over.
    """

    id: str
    key_id: str
    state: str
    input_file_id: str
    endpoint: str
    completion_window: str
    output_life: int | None
    labels: dict[str, str] | None
    model: str | None
    errors: dict[str, Any] | None
    output_file_id: str | None
    error_file_id: str | None
    total: int
    completed: int
    failed: int
    tokens: int
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    is_over: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The lines of a batch that became one job.

    Args:
        number: From 0.
        job_id: The job; None before it was submitted.
        model: Its model's name, as it was asked for.
        lines: How many lines.
        items: How many texts.
    """

    number: int
    job_id: str | None
    model: str
    lines: int
    items: int


class Line(NamedTuple):
    """One line of a batch and what it became.

    Args:
        custom_id: The caller's word for it.
        group: The number of its group.
        first: Position of its first text in the group's job.
        size: How many texts.
        dimensions: Components that its vectors are cut to, or None.
        base64: Whether its vectors are told as base64.
    """

    custom_id: str
    group: int
    first: int
    size: int
    dimensions: int | None
    base64: bool
