"""The look for an id's hash among those of a chunk, done by the database: they are not read to be compared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, LargeBinary, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from storage.tables import InputRow


class may_have_hash(GenericFunction[bool]):
    """Whether a blob has these bytes somewhere, be it across two hashes, which whoever asks must look at."""

    type = Boolean()
    inherit_cache = True


@compiles(may_have_hash, "sqlite")
def _on_sqlite(element: may_have_hash, compiler: Any, **kw: Any) -> str:
    hashes, wanted = (compiler.process(one, **kw) for one in element.clauses)
    return f"(instr({hashes}, {wanted}) > 0)"


@compiles(may_have_hash, "postgresql")
def _on_postgresql(element: may_have_hash, compiler: Any, **kw: Any) -> str:
    hashes, wanted = (compiler.process(one, **kw) for one in element.clauses)
    return f"(position({wanted} IN {hashes}) > 0)"


#: Numbers of chunks that one statement looks through: some ten megabytes of hashes.
RANGE = 10_000

#: The chunks of a `job`, from number `least` on and `below` another, among whose hashes a `hash` is, and perhaps some
#: that only look so; put together once.
CANDIDATES = (
    select(InputRow.number, InputRow.id_hashes)
    .where(InputRow.job_id == bindparam("job"))
    .where(InputRow.number >= bindparam("least"), InputRow.number < bindparam("below"))
    .where(may_have_hash(InputRow.id_hashes, bindparam("hash", type_=LargeBinary())))
    .order_by(InputRow.number)
)

#: The number of a job's last chunk that has texts.
LAST = select(func.max(InputRow.number)).where(InputRow.job_id == bindparam("job"))
