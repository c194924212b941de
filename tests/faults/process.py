"""`python -m tests.faults.process SLOT DEVICE ID`: the real worker process around the deterministic encoder."""

from __future__ import annotations

from typing import Any

from tests.faults.encoder import HashEncoder
from worker.process import Process, main


class HashProcess(Process):
    """A worker process without a model."""

    def _load(self) -> Any:
        return HashEncoder()


if __name__ == "__main__":
    main(HashProcess)
