"""Settings that only the HTTP service needs, on top of the shared ones."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from storage.contract.errors import InvalidOption
from storage.contract.settings import Settings


class ApiSettings(Settings):
    """What the HTTP service needs to know.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        auth: `none`: whoever reaches the service may do everything; `keys`: every request needs an API key.
        open_to_all: Listen beyond this machine without keys all the same.
        hosts: Further names, with commas between, under which the service may be called where no keys are used.
        max_body_bytes: Largest body of a request that is read as a whole, in bytes.
        max_part_bytes: Largest part of a job, or of an upload, in bytes.
        max_items: Most texts in a JSON body.
        max_streams: Most streams of events that are open at once.
        body_seconds: Longest silence in the middle of a request's body, in seconds.
        machine: Address of the health checks of the supervisor beside it, which knows more; set by `up` alone.
        max_calls: Most calls that may wait for their vectors at a time.
        call_timeout: Longest wait of a call for its vectors, in seconds.
        max_file_bytes: Largest file of OpenAI's dialect, in bytes.
        max_batch_lines: Most lines of a batch.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    auth: Literal["none", "keys"] = "none"
    open_to_all: bool = False
    hosts: str = ""
    max_body_bytes: int = Field(default=32_000_000, ge=1_000)
    max_part_bytes: int = Field(default=256_000_000, ge=1_000)
    max_items: int = Field(default=100_000, ge=1)
    max_streams: int = Field(default=4_000, ge=1)
    body_seconds: float = Field(default=60.0, gt=0)
    machine: str | None = None
    max_calls: int = Field(default=512, ge=1)
    call_timeout: float = Field(default=60, gt=0, le=3600)
    max_file_bytes: int = Field(default=1_000_000_000, ge=1_000)
    max_batch_lines: int = Field(default=100_000, ge=1)

    def check_exposure(self) -> None:
        """Refuse to listen beyond this machine without keys, unless that was said twice.

        Raises:
            InvalidOption: When it was not.
        """
        if self.auth == "keys" or is_loopback(self.host):
            return
        # Said, and not only left as it is by default.
        if self.open_to_all and "auth" in self.model_fields_set:
            return
        raise InvalidOption(
            f"Listening on {self.host} without keys would let everybody who reaches this machine do everything.",
            "Use keys (--auth keys, and `embedmill keys create`), or say it twice: --auth none --open-to-all.",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
