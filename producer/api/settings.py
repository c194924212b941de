"""Settings that only the HTTP service needs, on top of the shared ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from storage.contract.settings import Settings


class ApiSettings(Settings):
    """What the HTTP service needs to know.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        auth: `none`: whoever reaches the service may do everything; `keys`: every request needs an API key.
        open_to_all: Listen beyond this machine without keys all the same.
        max_body_bytes: Largest body of a request that is read as a whole, in bytes.
        max_part_bytes: Largest part of a job, or of an upload, in bytes.
        max_items: Most texts in a JSON body.
        log_level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    auth: Literal["none", "keys"] = "none"
    open_to_all: bool = False
    max_body_bytes: int = Field(default=32_000_000, ge=1_000)
    max_part_bytes: int = Field(default=256_000_000, ge=1_000)
    max_items: int = Field(default=100_000, ge=1)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
