"""Settings of `embedmill migrate` alone."""

from __future__ import annotations

from storage.contract.settings import Settings
from storage.rights import Side


class MigrationSettings(Settings):
    """What a migration needs to know.

    Args:
        api_role: PostgreSQL's role of the service and of those who submit beside it, which gets its rights; None: they
            log in as the owner.
        worker_role: The same for workers and reconcilers.
    """

    api_role: str | None = None
    worker_role: str | None = None

    @property
    def roles(self) -> dict[Side, str]:
        """The role of each side that has one."""
        named = {Side.API: self.api_role, Side.WORKER: self.worker_role}
        return {side: role for side, role in named.items() if role is not None}
