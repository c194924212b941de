"""Who is measured: peers, layers of Embedmill, and its whole path; each takes texts and says how long it took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.peer import Peer
from benchmarks.stack import Stack
from embedmill import Client
from storage.stores import Stores

#: Longest a job may take, in seconds.
_TIMEOUT = 900.0

Vectors = NDArray[np.float32]


class GateFailed(Exception):
    """Raised when what came of texts is not what must come of them: there is no result then."""


class Contender(Protocol):
    """Anything that takes texts and makes vectors of them."""

    name: str
    #: `float32`, `half` or `int8`: how exact its vectors are to be.
    precision: str
    description: dict[str, Any]
    #: The process that all others of its own descend from.
    pid: int
    #: Whether this process is part of it, as its client.
    has_client_here: bool

    def run(self, texts: list[str]) -> float:
        """Return how many seconds it took."""

    def vectors(self) -> Vectors | None:
        """Return what came of the last run, or None where it makes no vectors."""


class PeerContender:
    """A peer, or a layer of Embedmill in a process of its own.

    Args:
        name: What results call it.
        peer: The running peer.
        precision: How exact its vectors are to be.
        question: What it is asked.
        fetch: What it is asked for the vectors afterwards, where the first answer has none.
    """

    has_client_here = False

    def __init__(
        self, name: str, peer: Peer, precision: str, question: str = "encode", fetch: str | None = None
    ) -> None:
        self.name = name
        self.precision = precision
        self.description = peer.description
        self.pid = peer.pid
        self._peer = peer
        self._question = question
        self._fetch = fetch
        self._answer: Any = None

    def run(self, texts: list[str]) -> float:
        """Return how many seconds it took by its own clock."""
        seconds, self._answer = self._peer.ask(self._question, texts)
        return float(seconds)

    def vectors(self) -> Vectors | None:
        """Return what came of the last run."""
        answer = self._answer if self._fetch is None else self._peer.ask(self._fetch)[1]
        return answer if isinstance(answer, np.ndarray) else None


@dataclass
class WholePath:
    """A stack: from `Client.submit` to the moment the client knows that the job is completed and committed.

    Args:
        name: What results call it.
        stack: The running stack.
        client: One of it.
    """

    name: str
    stack: Stack
    client: Client
    has_client_here: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.pid = self.stack.pid
        self._job = self.client.submit(["warm"])
        self._job.wait(_TIMEOUT)
        stores = Stores.open(self.client.settings)
        self.precision = stores.workers.cards()[0].card.precision
        stores.database.close()
        self.description = {"precision": self.precision, "seconds_to_ready": round(self.stack.seconds, 1)}

    def run(self, texts: list[str]) -> float:
        """Return how many seconds it took.

        Raises:
            GateFailed: When not every text has a vector.
        """
        start = time.perf_counter()
        self._job = self.client.submit(texts)
        status = self._job.wait(_TIMEOUT)
        seconds = time.perf_counter() - start
        if status.succeeded != len(texts):
            raise GateFailed(f"{status.succeeded} of {len(texts)} texts have a vector")
        self.tokens = status.tokens
        return seconds

    def vectors(self) -> Vectors:
        """Return the vectors of the last job."""
        return self._job.vectors()
