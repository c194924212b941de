"""The store of results: one row a chunk, written once with its chunk's commit, read in submission order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row
from sqlalchemy.dialects import postgresql, sqlite

from storage import idhashes, texts, vectors
from storage.attempts import AttemptKey
from storage.contract.states import ChunkState
from storage.database import Database
from storage.idhashes import CANDIDATES, LAST
from storage.outcomes import ItemError, Page
from storage.pagequeries import AROUND, HAS_FAILED, MAY_FAIL_YET, MAY_HOLD, PAGE, PAGES, PAGES_BEHIND
from storage.tables import RESULTS

#: Most bytes of vectors fetched in one read transaction, but for the chunk that fills it over the brim: a longer one
#: would make SQLite's log grow. Most chunks, too, and what an item is taken to have before the first was seen.
_PAGE_BYTES, _PAGE_CHUNKS, _ITEM_BYTES = 8_000_000, 256, 4_096


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What one attempt at a chunk brought.

    Args:
        matrix: Shape (items, width); NaN rows where there is no vector. Or, with `each_token`, the states of all tokens
            of the items that have no error, end to end.
        dtype: `float32` or `float16`: what is kept.
        tokens: int32, shape (items,): tokens the encoder read.
        lengths: int32, shape (items,): tokens before the cut.
        errors: By position within the chunk; together with the vectors exactly one outcome an item.
        each_token: Whether there was no pooling.
        kept_tokens: Those of items that were kept from the round before: this attempt has not read them.

    Raises:
        ValueError: When an item has both or neither of vector and error, or shapes differ: never stored.
    """

    matrix: NDArray[np.floating]
    dtype: str
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    errors: dict[int, ItemError]
    each_token: bool = False
    kept_tokens: int = 0

    def __post_init__(self) -> None:
        size = len(self.tokens) if self.each_token else len(self.matrix)
        if len(self.tokens) != size or len(self.lengths) != size or not self._has_outcomes(size):
            raise ValueError("a chunk's result must hold exactly one outcome for every item")

    def _has_outcomes(self, size: int) -> bool:
        finite = np.isfinite(vectors.cast(self.matrix, self.dtype)).all(axis=1)
        succeeded = np.ones(size, dtype=bool)
        succeeded[list(self.errors)] = False
        if not self.each_token:
            return np.array_equal(finite, succeeded)
        states = self.tokens[succeeded]
        return bool(finite.all() and (states > 0).all() and states.sum() == len(self.matrix))

    @property
    def read(self) -> int:
        """Number of tokens that this attempt has read."""
        return int(self.tokens.sum()) - self.kept_tokens

    @property
    def succeeded(self) -> int:
        """Number of items with a vector, or with states."""
        return len(self.tokens) - len(self.errors)

    @property
    def truncated(self) -> int:
        """Number of items with a vector whose text was cut."""
        cut = self.lengths > self.tokens
        cut[list(self.errors)] = False
        return int(cut.sum())

    def to_row(self) -> dict[str, Any]:
        """Return the columns of the result row."""
        return {
            "width": self.matrix.shape[1],
            "dtype": self.dtype + vectors.EACH_TOKEN if self.each_token else self.dtype,
            "vectors": vectors.to_bytes(self.matrix, self.dtype),
            "tokens": self.tokens.astype("<i4").tobytes(),
            "lengths": self.lengths.astype("<i4").tobytes(),
            "errors": pack_errors(self.errors) or None,
        }


def refused(size: int, width: int, error: ItemError, dtype: str = "float32") -> ChunkResult:
    """Return the result of a chunk none of whose items gets a vector.

    Args:
        size: Number of items.
        width: Components that a vector would have.
        error: Why; the same for all.
        dtype: `float32` or `float16`: what is kept.
    """
    none = np.zeros(size, dtype=np.int32)
    return ChunkResult(np.full((size, width), np.nan, np.float32), dtype, none, none, dict.fromkeys(range(size), error))


def without(kept: Any, error: ItemError) -> ChunkResult:
    """Return the result of an earlier round as it was, but for a new error of those items that failed.

    Args:
        kept: Its row.
        error: Why they failed this time; items refused at the door keep theirs.
    """
    matrix = vectors.from_bytes(kept.vectors, kept.width, kept.dtype)
    tokens, lengths = (np.frombuffer(blob, dtype="<i4") for blob in (kept.tokens, kept.lengths))
    errors = unpack_errors(kept.errors or {})
    errors = {place: old if old.code == "invalid_item" else error for place, old in errors.items()}
    return ChunkResult(matrix, kept.dtype, tokens, lengths, errors)


def write_results(connection: Connection, results: Mapping[AttemptKey, ChunkResult]) -> None:
    """Write chunks' results inside the transaction that has just checked their tokens.

    A row is there already only when `retry` sent the chunk round again; the result then already holds the kept vectors.
    """
    rows = [
        {"job_id": job_id, "number": number, "token": token, **result.to_row()}
        for (job_id, number, token), result in results.items()
    ]
    connection.execute(_WRITE[connection.dialect.name], rows)


def _upsert(insert: Any) -> Any:
    statement = insert(RESULTS)
    new = {column.name: statement.excluded[column.name] for column in RESULTS.columns}
    return statement.on_conflict_do_update(index_elements=["job_id", "number"], set_=new)


#: The statement that writes results, by dialect; made once, because making one costs more than running it.
_WRITE = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}


class ResultStore:
    """Every read of results."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def pages(self, job_id: str, first: int = 0, settled_only: bool = False) -> Iterator[Page]:
        """Yield the job's chunks in order, each with what is known of it now.

        Args:
            job_id: The job.
            first: Position of the first item of the chunk to begin with.
            settled_only: Stop before the first chunk whose items are still pending, for readers of a running job.
        """
        many, each = 2, _ITEM_BYTES
        rows = self._rows(job_id, first, many)
        # The next rows are read while those at hand are written somewhere.
        with ThreadPoolExecutor(1, "pages") as ahead:
            while rows:
                following = None
                # Fewer than asked for are the last ones only where they were asked for by their number alone.
                if many > 2 or len(rows) == many:
                    many, each = _PAGE_CHUNKS, _bytes_an_item(rows) or each
                    end = rows[-1].first + rows[-1].size
                    following = ahead.submit(self._rows, job_id, end, many, max(1, _PAGE_BYTES // each))
                for row in rows:
                    if settled_only and _is_pending(row):
                        return
                    yield _page(row)
                rows = following.result() if following is not None else ()

    def _rows(self, job_id: str, first: int, many: int, items: int = 1 << 62) -> Sequence[Row[Any]]:
        """Return chunks that follow each other, as far as they begin within so many items: at least the first one."""
        wanted = {"job": job_id, "least": first, "below": first + items, "many": many}
        with self._db.read() as connection:
            return connection.execute(PAGES, wanted).all()

    def page_at(self, job_id: str, position: int, status: str | None = None) -> Page | None:
        """Return the chunk that holds an item, or the first one behind it that may hold one of a status.

        Args:
            job_id: The job.
            position: Of the item.
            status: `succeeded`, `failed` or `cancelled`: settled chunks that have no such item are passed over; None:
                no chunk is.

        Returns:
            The page; None where the job has no further one.
        """
        asked = {"job": job_id, "position": position}
        with self._db.read() as connection:
            statement = PAGES_BEHIND if status is None else MAY_HOLD[status]
            if status == "failed" and not connection.execute(MAY_FAIL_YET, {"job": job_id}).scalar():
                statement = HAS_FAILED
            row = connection.execute(statement, asked).first()
        return None if row is None else _page(row)

    def first_around(self, job_id: str, position: int) -> int:
        """Return the position of the first item of the chunk that holds an item."""
        with self._db.read() as connection:
            return int(connection.execute(AROUND, {"job": job_id, "position": position}).scalar() or 0)

    def find(self, job_id: str, custom_id: str) -> Page | None:
        """Return the page that holds the item of a caller's id, or None; decodes the chunks that have its hash."""
        least, last = 0, 0
        while least <= last:
            # A job that is deleted, or a chunk that is split, between two statements would be found and not be there.
            with self._db.read(one_moment=True) as connection:
                page = _found(connection, job_id, custom_id, least)
                # Asked again each time: the halves of a chunk that was split come behind the last one.
                last = connection.execute(LAST, {"job": job_id}).scalar() or 0
            if page is not None:
                return page
            least += idhashes.RANGE
        return None


def _bytes_an_item(rows: Sequence[Any]) -> int:
    """Return how many bytes of vectors an item has, of the chunk where they are most; 0 where there are none yet."""
    return max(-(-len(row.vectors or b"") // int(row.size)) for row in rows)


def _found(connection: Connection, job_id: str, custom_id: str, least: int) -> Page | None:
    """Return the page that holds the item of a caller's id, if it is among some chunks from a number on."""
    wanted = texts.hash_ids([custom_id])
    asked = {"job": job_id, "hash": wanted.tobytes(), "least": least, "below": least + idhashes.RANGE}
    for number, blob in connection.execute(CANDIDATES, asked):
        if wanted[0] not in np.frombuffer(blob or b"", dtype="<u8"):
            continue
        row = connection.execute(PAGE, {"job": job_id, "number": number}).first()
        # What is left of a part that was cut off lies there until the next one comes, and is nobody's item.
        page = None if row is None else _page(row)
        if page is not None and page.ids is not None and custom_id in page.ids:
            return page
    return None


def _is_pending(row: Row[Any]) -> bool:
    return bool(row.goes_round) or (row.state not in (ChunkState.DONE, ChunkState.CANCELLED) and not row.is_over)


def _page(row: Row[Any]) -> Page:
    none = np.zeros(row.size, dtype="<i4")
    errors = unpack_errors(row.invalid or {})
    # A chunk on its way round again keeps its vectors, but what `retry` asked for has no outcome yet.
    if row.errors and row.state == ChunkState.DONE and not row.goes_round:
        errors |= unpack_errors(row.errors)
    return Page(
        first=row.first,
        size=row.size,
        rest="cancelled" if row.state == ChunkState.CANCELLED or row.is_over else "pending",
        width=row.width or 0,
        dtype=(row.dtype or "float32").removesuffix(vectors.EACH_TOKEN),
        vectors=row.vectors,
        tokens=np.frombuffer(row.tokens, dtype="<i4") if row.tokens else none,
        lengths=np.frombuffer(row.lengths, dtype="<i4") if row.lengths else none,
        ids=texts.unpack_ids(row.ids) if row.ids is not None else None,
        errors=errors,
        each_token=(row.dtype or "").endswith(vectors.EACH_TOKEN),
    )


def pack_errors(errors: dict[int, ItemError]) -> dict[str, Any]:
    """Return errors by position as a JSON object."""
    return {str(position): [error.code, error.message] for position, error in sorted(errors.items())}


def unpack_errors(data: dict[str, Any]) -> dict[int, ItemError]:
    """Return the errors that `pack_errors` wrote."""
    return {int(position): ItemError(*pair) for position, pair in data.items()}
