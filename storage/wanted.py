"""The store of models that calls want: an autoscaler would see nothing of calls else.

A call is refused at once where no worker is there, and leaves nothing behind where one is. So that a worker comes, and
does not go between two calls, it is noted for some minutes that its model is wanted.
"""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, exists, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from storage.contract.ids import new_id
from storage.database import Database, now_ms
from storage.faults import retried
from storage.tables import LeaderRow, ModelRow

#: One process notes a model once in so many seconds.
_EACH = 60.0

#: How long a note holds, in milliseconds: five minutes after the last call, which may come just before the next note.
_FOR = 300_000 + int(_EACH * 1000)

#: What the notes' rows begin with, among those of leaders, which have an owner and an end too.
_DUTY = "wanted:"


class WantedStore:
    """Notes which models are wanted; there are at most as many rows as models that were ever served."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._id = new_id()
        self._noted: dict[str, float] = {}

    def note(self, model_id: str) -> None:
        """Note that a call wants a model, whether anybody serves it or not.

        Args:
            model_id: The identity that its job would be bound to.
        """
        now = time.monotonic()
        if now < self._noted.get(model_id, now):
            return
        # Also where it cannot be written down: a database in need is not asked again with each call.
        self._noted[model_id] = now + _EACH
        self._write(_DUTY + model_id)

    @retried
    def _write(self, duty: str) -> None:
        values = {"owner": self._id, "expires": now_ms() + _FOR}
        try:
            with self._db.write(durable=False) as connection:
                if not connection.execute(update(LeaderRow).where(LeaderRow.duty == duty).values(values)).rowcount:
                    connection.execute(insert(LeaderRow).values(duty=duty, **values))
        except IntegrityError:
            # Another process has noted it in the same moment.
            return


def is_wanted(*identity: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return whether calls want a model of these kinds now.

    Args:
        *identity: Conditions on the rows of models.
    """
    duties = select(literal(_DUTY) + ModelRow.id).where(*identity)
    # More than its time is left where the database's clock was set back: then it is over.
    return exists().where(LeaderRow.duty.in_(duties), LeaderRow.expires.between(now_ms(), now_ms() + _FOR))
