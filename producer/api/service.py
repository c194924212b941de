"""What every route works with: the settings, the client that submits and finds, and who waits for ends of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from producer.api.bodyroom import BodyRoom
from producer.api.calls import Calls
from producer.api.knownkeys import KnownKeys
from producer.api.metrics import Metrics
from producer.api.openai.batchwork import BatchWork
from producer.api.settings import ApiSettings
from producer.api.statesroom import StatesRoom
from producer.api.streams import Streams
from producer.api.waiting import Waiting
from producer.client import Client
from producer.parting import Parting
from storage.stores import Stores


@dataclass(frozen=True, slots=True)
class Service:
    """One of each, for the life of the process.

    Args:
        settings: What was asked for.
        client: Submits jobs and finds them again; may be used by several threads.
        waiting: Tells when jobs end.
        streams: Everybody who follows a job.
        metrics: What requests there were.
        calls: Embeds a few texts while somebody waits.
        keys: Tells good API keys from bad ones.
        batch_work: Works at OpenAI's batches.
        parting: Takes parts of jobs.
        body_room: Memory for bodies that are kept in it as a whole.
        states_room: Memory for answers that hold states of tokens.
    """

    settings: ApiSettings
    client: Client
    waiting: Waiting
    streams: Streams
    metrics: Metrics
    calls: Calls
    batch_work: BatchWork
    keys: KnownKeys = field(init=False)
    parting: Parting = field(init=False)
    body_room: BodyRoom = field(init=False)
    states_room: StatesRoom = field(init=False, default_factory=StatesRoom)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", KnownKeys(self.client.stores.keys))
        limits = (self.settings.max_text_bytes, self.settings.max_part_bytes)
        object.__setattr__(self, "parting", Parting(self.client.stores, *limits))
        object.__setattr__(self, "body_room", BodyRoom(self.settings.max_body_bytes))

    @property
    def stores(self) -> Stores:
        """Every store."""
        return self.client.stores


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state.service
    return service


#: A route's parameter of this type is the service.
ServiceDep = Annotated[Service, Depends(service_of)]
