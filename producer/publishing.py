"""Publishes a job's vectors into a pgvector table; published twice, they are there once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from producer.job import Job
from producer.pgvector import PgvectorTable, Rows
from storage.contract.errors import WrongState
from storage.outcomes import Page
from storage.stores import Stores

#: Vectors of one transaction: a few MB.
_AT_ONCE = 2_048


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a job's items.

    Args:
        added: Vectors that are in the table now and were not before.
        there: Vectors that were there before.
        without: Items that have no vector.
        changed: Items whose id or text has lost its NUL characters, which PostgreSQL does not keep.
    """

    added: int = 0
    there: int = 0
    without: int = 0
    changed: int = 0


def publish(
    stores: Stores, job: Job, table: PgvectorTable, with_text: bool, progress: Callable[[Published], None] | None = None
) -> Published:
    """Copy the vectors of an ended job into a table; where it was cut off, it goes on when it is done again.

    Args:
        stores: Where the job is.
        job: The job.
        table: Where its vectors go; made when it is missing.
        with_text: Whether the texts go with them.
        progress: Called after each transaction.

    Raises:
        WrongState: When the job has not ended or has no vectors, or its texts are wanted and gone.
        InvalidOption: When the table is not fit for it.
        UnknownJob: When it is deleted meanwhile.
    """
    status = job.status()
    if not status.is_final:
        raise WrongState(f"Job {job.id} is {status.state}.", f"Wait for it first: embedmill wait {job.id}")
    if not job.width():
        raise WrongState(f"Job {job.id} has no vectors.", f"Its status says why: embedmill status {job.id}")
    table.prepare()
    done = Published()
    for pages in _gathered(job.pages()):
        rows, without = _rows(stores, job.id, pages, with_text)
        rows, changed = _without_nul(rows)
        added = table.add(job.id, rows)
        there = done.there + len(rows.positions) - added
        done = replace(done, added=done.added + added, there=there, without=done.without + without)
        done = replace(done, changed=done.changed + changed)
        if progress is not None:
            progress(done)
    return done


def _gathered(pages: Iterator[Page]) -> Iterator[list[Page]]:
    some: list[Page] = []
    for page in pages:
        some.append(page)
        if sum(one.size for one in some) >= _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _rows(stores: Stores, job_id: str, pages: list[Page], with_text: bool) -> tuple[Rows, int]:
    """Return the items of some chunks that have vectors, and how many have none."""
    positions: list[int] = []
    ids: list[str] = []
    texts: list[str] = []
    parts = []
    for page in pages:
        has = page.succeeded()
        matrix = page.matrix()
        if matrix is None or not has.any():
            continue
        places = np.flatnonzero(has).tolist()
        parts.append(matrix[has])
        positions += [page.first + place for place in places]
        ids += [page.ids[place] for place in places] if page.ids is not None else []
        if with_text:
            of_chunk = stores.inputs.texts(job_id, page.first)
            texts += [of_chunk[place] for place in places]
    matrix = np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
    rows = Rows(positions, ids or None, texts if with_text else None, matrix)
    return rows, sum(page.size for page in pages) - len(positions)


def _without_nul(rows: Rows) -> tuple[Rows, int]:
    """Return rows as PostgreSQL can keep them, and how many of them had what it cannot."""
    words = [words for words in (rows.ids, rows.texts) if words is not None]
    changed = sum(any("\0" in word for word in of_item) for of_item in zip(*words, strict=True))
    if not changed:
        return rows, 0
    ids, texts = (words and [word.replace("\0", "") for word in words] for words in (rows.ids, rows.texts))
    return replace(rows, ids=ids, texts=texts), changed
