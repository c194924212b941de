"""The store of leaders: which process does a duty that one process should do at a time."""

from __future__ import annotations

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from storage.database import Database, now_ms
from storage.faults import retried
from storage.tables import LeaderRow

#: The duty of making queue and storage agree.
RECONCILE = "reconcile"

#: How long a leader leads without saying so again, in milliseconds.
_TERM = 10_000

#: A leader that has this much of its term left need not write, in milliseconds.
_RENEW_BELOW = 7_000


class LeaderStore:
    """Every read and write of leader rows; a plain row, since session locks do not survive a pooler."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @retried
    def lead(self, duty: str, owner: str) -> bool:
        """Take or keep the lead; return whether `owner` has it.

        Args:
            duty: What is led, such as `RECONCILE`.
            owner: The id of this start of the process.
        """
        with self._db.read() as connection:
            wanted = select(LeaderRow.owner, (LeaderRow.expires - now_ms()).label("left"))
            row = connection.execute(wanted.where(LeaderRow.duty == duty)).first()
        if row is not None and (_RENEW_BELOW if row.owner == owner else 0) < row.left <= _TERM:
            return bool(row.owner == owner)
        values = {"owner": owner, "expires": now_ms() + _TERM}
        # More than a term is left where the database's clock was set back: nobody leads then until it is there again.
        over = or_(LeaderRow.expires < now_ms(), LeaderRow.expires > now_ms() + _TERM)
        free = or_(LeaderRow.owner == owner, over)
        try:
            with self._db.write(durable=False) as connection:
                if connection.execute(update(LeaderRow).where(LeaderRow.duty == duty, free).values(values)).rowcount:
                    return True
                if row is None:
                    connection.execute(insert(LeaderRow).values(duty=duty, **values))
                    return True
        except IntegrityError:
            return False
        return False

    def resign(self, duty: str, owner: str) -> None:
        """Give up the lead, so that another takes it at once."""
        with self._db.write(durable=False) as connection:
            connection.execute(delete(LeaderRow).where(LeaderRow.duty == duty, LeaderRow.owner == owner))
