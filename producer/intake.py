"""Records on their way into a job: judged, looked through for repeated ids, gathered into chunks, written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice

import numpy as np

from producer.chunking import Chunker
from producer.idset import IdSet
from producer.judging import Judged, judge
from producer.records import RecordLike
from storage.chunks import NewChunk
from storage.contract.errors import InvalidItems, InvalidOption, Problem

#: Invalid items that are reported one by one; of the others only the number is told.
REPORTED = 100

#: Records judged together; repeated ids are looked for in this many at once.
_BATCH = 1024

#: Records that are read before it is seen how long their texts are, and characters after which a batch is closed.
_STEP, _BATCH_CHARACTERS = 32, 4_000_000

#: Suspected repeats that are compared letter by letter; two ids with one 64-bit hash are not met twice in a lifetime.
_VERIFIED = 8


class Intake:
    """Takes records of one job, or of one part of it.

    Args:
        write: Takes a group of chunks; not called any more once an item is refused.
        find: Says whether a caller's id is among what was written.
        with_ids: Whether every record must have a caller's id.
        keep: Whether invalid items are kept as errors.
        max_text_bytes: Longest text.
        seen: Ids that have come before.
        hash: Is fed with texts and ids; None: nobody asks for it.
        items: Items of the job that came before.
        chunks: Chunks of the job that came before.
    """

    def __init__(
        self,
        write: Callable[[list[NewChunk]], None],
        find: Callable[[str], bool],
        *,
        with_ids: bool,
        keep: bool,
        max_text_bytes: int,
        seen: IdSet | None = None,
        hash: blake2b | None = None,
        items: int = 0,
        chunks: int = 0,
    ) -> None:
        self._write_on = write
        self._find = find
        self._with_ids = with_ids
        self._keep = keep
        self._max_bytes = max_text_bytes
        self._seen = IdSet() if seen is None else seen
        self._hash = hash
        self._chunker = Chunker(self._write, items, chunks)
        self._first = self._taken = items
        self._verified = 0
        self._problems: list[Problem] = []
        self._problem_count = 0

    @property
    def items(self) -> int:
        """Items of the job so far, with those that came before."""
        return self._chunker.items

    @property
    def chunks(self) -> int:
        """Chunks of the job so far, with those that came before."""
        return self._chunker.chunks

    def take(self, records: Iterable[RecordLike]) -> None:
        """Read and judge records.

        Args:
            records: Any number; read once, in constant memory.
        """
        for batch in _batches(records):
            self._take(batch)

    def finish(self) -> list[NewChunk]:
        """Return the chunks that were not written yet.

        Raises:
            InvalidItems: When items are invalid and not kept.
            InvalidOption: When there are no items.
        """
        rest = self._chunker.finish()
        if self._refusing:
            raise InvalidItems(self._problems, self._problem_count)
        if self.items == self._first:
            raise InvalidOption("There are no texts to submit.")
        return rest

    def _take(self, batch: Sequence[RecordLike]) -> None:
        judged = judge(batch, self._max_bytes, self._with_ids)
        for place in self._repeated(judged):
            judged.refuse(place, "the id has come before")
        for place, problem in sorted(judged.problems.items()):
            self._note(self._taken + place, batch[place][2], problem)
        if self._hash is not None:
            ids = judged.ids or [""] * len(batch)
            for encoded, custom_id in zip(judged.texts, ids, strict=True):
                self._hash.update(encoded + b"\xff" + custom_id.encode() + b"\xff")
        self._chunker.extend(judged)
        self._taken += len(batch)

    def _repeated(self, judged: Judged) -> list[int]:
        """Return the places of ids that have come before in this job."""
        if judged.ids is None or judged.id_hashes is None:
            return []
        given = np.flatnonzero([custom_id != "" for custom_id in judged.ids])
        suspects = given[self._seen.add(judged.id_hashes[given])].tolist()
        return [i for i in suspects if judged.ids[i] in judged.ids[:i] or self._has_come(judged.ids[i])]

    def _has_come(self, custom_id: str) -> bool:
        if self._verified >= _VERIFIED or self._refusing or self._chunker.holds(custom_id):
            return True
        self._verified += 1
        return self._find(custom_id)

    @property
    def _refusing(self) -> bool:
        return bool(self._problem_count) and not self._keep

    def _note(self, position: int, where: str, problem: str) -> None:
        self._problem_count += 1
        if len(self._problems) < REPORTED:
            self._problems.append(Problem(position, where or f"item {position}", problem))

    def _write(self, chunks: list[NewChunk]) -> None:
        if not self._refusing:
            self._write_on(chunks)


def _batches(records: Iterable[RecordLike]) -> Iterator[list[RecordLike]]:
    """Yield records in batches that are neither many nor, where texts are long, much."""
    iterator = iter(records)
    batch: list[RecordLike] = []
    characters = 0
    while step := list(islice(iterator, _STEP)):
        batch += step
        characters += sum(len(record[0]) for record in step if isinstance(record[0], str))
        if len(batch) >= _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
