"""One part on its way into a job: judged and written like a submission, there as a whole or not at all."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import sha256

from producer.idset import IdSet
from producer.intake import Intake
from producer.ndjson import NdjsonRecords
from storage.chunks import NewChunk
from storage.contract.errors import Conflict, EmbedmillError, TooLarge, WrongState
from storage.contract.states import JobState
from storage.parts import Part
from storage.stores import Stores
from storage.takings import Taking

#: Jobs whose ids are remembered between two parts, and the most ids of one that are: 16 bytes each.
_REMEMBERED, _MOST_IDS = 8, 4_000_000


class Parting:
    """Takes parts of jobs; may be used by several threads.

    Args:
        stores: Where the jobs are kept.
        max_text_bytes: Longest text.
        max_part_bytes: Longest part.
    """

    def __init__(self, stores: Stores, max_text_bytes: int, max_part_bytes: int) -> None:
        self._stores = stores
        self._max_text_bytes = max_text_bytes
        self._max_part_bytes = max_part_bytes
        self._lock = threading.Lock()
        self._ids: OrderedDict[tuple[str, int], IdSet] = OrderedDict()

    def put(
        self, job_id: str, number: int, blocks: Iterable[bytes], text_field: str = "text", id_field: str | None = None
    ) -> Part:
        """Take a part; one that is there already, with the same bytes, is left as it is.

        Args:
            job_id: The job.
            number: The part's number, from 0.
            blocks: NDJSON, cut anywhere.
            text_field: Field of a line that holds its text.
            id_field: Field that holds its id; None: `id`, when the job's first line has one.

        Raises:
            InvalidItems: When items are invalid and are not to be kept; nothing of the part was kept.
            InvalidOption: When it is empty.
            Conflict: When another part is due, this one is there with other bytes, or another request writes it.
            WrongState: When the job is sealed, or not submitted in parts.
            TooLarge: When it has more bytes than allowed.
        """
        body = _Body(blocks, self._max_part_bytes)
        known = self._stores.parts.get(job_id, number)
        if known is not None:
            return _same(known, body)
        if self._stores.jobs.get(job_id).state != JobState.ACCEPTING:
            raise WrongState(f"Job {job_id} is sealed and takes no more parts.")
        following = self._stores.parts.next(job_id)
        if number != following:
            raise Conflict(f"Part {number} is not due.", f"The next one is part {following}.")
        taking = self._stores.parts.begin(job_id)
        if taking.next != number:
            raise Conflict(f"Another request writes to job {job_id}.", f"The next one is part {taking.next}.")
        try:
            return self._take(taking, body, text_field, id_field)
        except BaseException:
            # What is left of it would go with the next part, too.
            with contextlib.suppress(EmbedmillError):
                self._stores.parts.drop(taking)
            raise

    def _take(self, taking: Taking, body: _Body, text_field: str, id_field: str | None) -> Part:
        with_ids = taking.has_ids if taking.next else None
        records = NdjsonRecords(body, text_field, id_field, with_ids)
        seen = self._seen(taking) if records.with_ids else IdSet()

        def write(chunks: list[NewChunk]) -> None:
            self._stores.parts.append(taking, chunks)

        intake = Intake(
            write,
            lambda custom_id: self._stores.results.find(taking.job_id, custom_id) is not None,
            with_ids=records.with_ids,
            keep=taking.on_invalid == "keep",
            max_text_bytes=self._max_text_bytes,
            seen=seen,
            items=taking.items,
            chunks=taking.chunks,
        )
        intake.take(records)
        rest = intake.finish()
        part = Part(taking.next, taking.items, intake.items - taking.items, intake.chunks, body.digest())
        self._stores.parts.finish(taking, rest, part, records.with_ids)
        if records.with_ids and len(seen) <= _MOST_IDS:
            self._remember(taking, seen)
        return part

    def _seen(self, taking: Taking) -> IdSet:
        """Return the ids of all parts before."""
        with self._lock:
            seen = self._ids.pop((taking.job_id, taking.next), None)
        if seen is None:
            seen = IdSet()
            for hashes in self._stores.parts.id_hashes(taking.job_id):
                seen.add(hashes)
        return seen

    def _remember(self, taking: Taking, seen: IdSet) -> None:
        with self._lock:
            self._ids[taking.job_id, taking.next + 1] = seen
            while len(self._ids) > _REMEMBERED:
                self._ids.popitem(last=False)


class _Body:
    """The bytes of a part, counted and hashed while they pass."""

    def __init__(self, blocks: Iterable[bytes], most: int) -> None:
        self._blocks = blocks
        self._left = most
        self._most = most
        self._hash = sha256()

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._left -= len(block)
            if self._left < 0:
                raise TooLarge(f"The part has more than the {self._most:,} bytes allowed.", "Send smaller parts.")
            self._hash.update(block)
            yield block

    def digest(self) -> str:
        """Return the hash of all that has passed, in hexadecimal."""
        return self._hash.hexdigest()


def _same(known: Part, body: _Body) -> Part:
    for _ in body:
        pass
    if body.digest() != known.sha256:
        raise Conflict(f"Part {known.number} is there already, with other bytes.", "A part cannot be replaced.")
    return known
