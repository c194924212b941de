"""What every route works with: the settings, the client that submits and finds, and who waits for ends of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from producer.api.answerroom import FREE_TEXT, MOST_NUMBERS_AT_ONCE, AnswerRoom
from producer.api.bodyroom import BodyRoom
from producer.api.calls import Calls
from producer.api.knownkeys import KnownKeys
from producer.api.metrics import Metrics
from producer.api.openai.batchwork import BatchWork
from producer.api.settings import ApiSettings
from producer.api.shares import Shares
from producer.api.streams import Streams
from producer.api.waiting import Waiting
from producer.client import Client
from producer.parting import Parting
from storage.backlogs import Waiting as Backlogged
from storage.kept import Kept
from storage.stores import Stores

#: Result files that are made, or still being read, at a time: each is as large on the disk as a job's vectors.
_MADE_FILES = 4
_TOO_MANY_FILES = ("Too many files of results are being made.", "Ask again in a moment, or for npy or jsonl.", 5)


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
        states_room: Memory for answers that hold states of tokens, in numbers.
        tokens_room: Memory for answers that hold tokens, in bytes of their texts.
        backlog: What waits for each model, added up for all who ask.
        made_files: Places of result files that are made on the disk before they are sent.
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
    states_room: AnswerRoom = field(init=False, default_factory=lambda: AnswerRoom(MOST_NUMBERS_AT_ONCE))
    tokens_room: AnswerRoom = field(init=False)
    backlog: Kept[list[Backlogged]] = field(init=False)
    made_files: Shares = field(init=False, default_factory=lambda: Shares(_MADE_FILES, _TOO_MANY_FILES))

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", KnownKeys(self.client.stores.keys))
        limits = (self.settings.max_text_bytes, self.settings.max_part_bytes)
        object.__setattr__(self, "parting", Parting(self.client.stores, *limits))
        # A token takes some hundred bytes, for a tokenizer and as JSON: there is room for one text of the longest.
        object.__setattr__(self, "tokens_room", AnswerRoom(self.settings.max_text_bytes, FREE_TEXT))
        object.__setattr__(self, "backlog", Kept(self.client.stores.backlogs.waiting))
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
