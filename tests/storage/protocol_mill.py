"""What the state machine of the protocol is made of: two processes' stores, the model, and answers that get lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import text

from storage.attempts import Claim
from storage.contract import failpoints
from storage.contract.errors import EmbedmillError, StorageUnavailable
from storage.contract.ids import new_id
from storage.contract.messages import Pointer
from storage.database import Database
from storage.stores import Stores
from tests.storage.builders import serve
from tests.storage.protocol_jobs import Chunk, Outcome
from tests.storage.protocol_model import Model, Refused
from tests.storage.protocol_rows import rows_in, rows_of

Method = TypeVar("Method", bound=Callable[..., None])


def step(weight: int = 1, need: Callable[[Any], object] | None = None, **given: Any) -> Callable[[Method], Method]:
    """Make a method a step; hypothesis' own rules are all equally likely, and most of them would find nothing to do.

    Args:
        weight: How likely it is beside the others.
        need: Whether there is anything for it to do.
        **given: What its arguments are drawn from.
    """

    def mark(method: Method) -> Method:
        _STEPS[method.__name__] = (weight, need, given)
        return method

    return mark


_STEPS: dict[str, tuple[int, Callable[[Any], object] | None, dict[str, Any]]] = {}


class ProtocolMill(RuleBasedStateMachine):
    """The stores of two processes over one database, and the model beside them."""

    pairs: ClassVar[Iterator[tuple[Database, Database]]]

    def __init__(self) -> None:
        super().__init__()
        self.databases = next(self.pairs)
        # Only steps let leases run out: no example takes an hour, on however busy a machine.
        self.sides = [Stores.on(database, lease=3_600_000) for database in self.databases]
        self.workers = [serve(stores) for stores in self.sides]
        self.model = Model(workers=2)
        self.ids: list[str] = [new_id()]
        self.attempts: list[Claim] = []
        self.values = itertools.count(1)

    @rule(data=st.data())
    def act(self, data: Any) -> None:
        """Do one step."""
        able = [name for name, (weight, need, _) in _STEPS.items() if need is None or need(self) for _ in range(weight)]
        name = data.draw(st.sampled_from(able), label="step")
        given = {key: data.draw(strategy, label=key) for key, strategy in _STEPS[name][2].items()}
        getattr(self, name)(**given)

    def teardown(self) -> None:
        for database in self.databases:
            database.close()

    def next_id(self) -> str:
        """Return an id that sorts after all before it: what is drawn next must not depend on an id's random bits."""
        while (made := new_id()) <= self.ids[-1]:
            pass
        return made

    def job(self, place: int) -> str:
        return self.ids[place % len(self.ids)]

    def pointer(self, place: int) -> Pointer:
        """Return what a message may say: most often a chunk that waits or is held, seldom one that never was."""
        known = self.model.chunks("pending", "dispatched", "leased") or self.model.chunks("done", "cancelled", "split")
        if place % 16 == 15 or not known:
            return Pointer(self.job(place), place // 16)
        chosen = known[place % len(known)]
        return Pointer(chosen.job, chosen.number)

    def some(self, place: int, many: int) -> list[Claim]:
        """Return attempts, late ones and the same one twice among them."""
        newest = self.attempts[::-1]
        return [newest[(place * step) % len(newest)] for step in range(1, many + 1)]

    @contextmanager
    def broken(self, name: str | None) -> Iterator[list[str]]:
        """Have the database fail at a boundary; yields the boundaries that were passed."""
        passed: list[str] = []

        def reach(here: str) -> None:
            passed.append(here)
            if here == name:
                raise StorageUnavailable("The database does not answer.")

        before, failpoints.reach = failpoints.reach, reach
        try:
            yield passed
        except StorageUnavailable:
            assert passed[-1] == name
        finally:
            failpoints.reach = before

    def same(self, call: Callable[[], Any], expect: Callable[[], Any]) -> None:
        """Compare what a call returns or raises with what it must."""
        wanted: Any
        try:
            wanted = expect()
        except Refused as refused:
            wanted = refused.args[0]
        try:
            found = call()
        except EmbedmillError as error:
            found = error.code
        assert found == wanted

    def row(self, claim: Claim, bad: int) -> list[Outcome]:
        """Return what an attempt brings: bit i of `bad` makes item i fail."""
        known = self.model.chunk(claim.job_id, claim.number)
        if known is None or known.size != claim.size:
            return [float(next(self.values)) for _ in range(claim.size)]
        return known.filled({i: "encoder_failed" if bad >> i & 1 else float(next(self.values)) for i in known.todo()})

    def sql(self, statement: str, about: Chunk | None = None) -> None:
        with self.databases[0].write() as connection:
            names = {"job": about.job, "number": about.number} if about else {}
            connection.execute(text(statement), {k: v for k, v in names.items() if f":{k}" in statement})

    @invariant()
    def all_rows_are_as_the_model_says(self) -> None:
        assert rows_in(self.databases[0]) == rows_of(self.model)
