"""Conditions that name several rows at once, for statements that are put together once and run all the time.

Putting a statement together costs several times what running it does, on a path where milliseconds count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, bindparam, tuple_

from storage.attempts import AttemptKey
from storage.tables import CHUNK_IS_LEASED, ChunkRow


def one_of(name: str) -> Any:
    """Return what stands for any number of values, given by this name when the statement is run."""
    return bindparam(name, expanding=True)


def named(row: Any) -> ColumnElement[bool]:
    """Return the condition for rows of the chunks that `chunks` names.

    Args:
        row: A table that has a row a chunk.
    """
    return _near(row) & tuple_(row.job_id, row.number).in_(one_of("chunks"))


def chunks(keys: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """Return what a statement with `named` is run with.

    Args:
        keys: Jobs and numbers.
    """
    return _parts(keys := list(keys)) | {"chunks": keys}


def attempts(keys: Iterable[AttemptKey]) -> dict[str, Any]:
    """Return what a statement with `ATTEMPTS` is run with.

    Args:
        keys: Jobs, numbers and tokens.
    """
    return _parts(keys := list(keys)) | {"attempts": keys}


def held(keys: Iterable[AttemptKey], owners: Iterable[str]) -> dict[str, Any]:
    """Return what a statement with `HELD` is run with.

    Args:
        keys: As for `attempts`.
        owners: The starts of processes that hold them, nearly always one.
    """
    return attempts(keys) | {"owners": list(set(owners))}


def _near(row: Any) -> ColumnElement[bool]:
    # The jobs and the numbers by themselves too: SQLite would else walk all chunks of a state.
    condition: ColumnElement[bool] = row.job_id.in_(one_of("jobs")) & row.number.in_(one_of("numbers"))
    return condition


def _parts(keys: list[Any]) -> dict[str, Any]:
    return {"jobs": list({key[0] for key in keys}), "numbers": list({key[1] for key in keys})}


#: The attempts that `attempts` names, as far as their tokens still are their chunks'.
ATTEMPTS = _near(ChunkRow) & tuple_(ChunkRow.job_id, ChunkRow.number, ChunkRow.token).in_(one_of("attempts"))

#: The same, held by one of those that `owners` names. A failover to a standby that was behind forgets tokens and gives
#: them out again: who holds the chunk, which no other start of a process is called, tells its claim from the lost one.
HELD = ATTEMPTS & CHUNK_IS_LEASED & ChunkRow.lease_owner.in_(one_of("owners"))
