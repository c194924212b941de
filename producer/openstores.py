"""The stores of a database, opened for a command that works on it and on no service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.contract.errors import InvalidOption
from storage.contract.settings import Settings

if TYPE_CHECKING:
    from storage.stores import Stores


@contextmanager
def opened_stores(settings: Settings) -> Iterator[Stores]:
    """Open every store until the end of the block.

    Args:
        settings: Say where the database is.

    Raises:
        InvalidOption: When they name a service: what is done would be done elsewhere than was meant.
        StorageUnavailable: When the database cannot be reached.
        SchemaMismatch: When it must be migrated, or this program upgraded.
    """
    refuse_service(settings)
    from storage.stores import Stores  # SQLAlchemy costs a third of a second, and `--help` needs none of it

    stores = Stores.open(settings)
    try:
        yield stores
    finally:
        stores.database.close()


def refuse_service(settings: Settings) -> None:
    """Refuse settings that name a service.

    Raises:
        InvalidOption: When they do.
    """
    if settings.url is not None:
        raise InvalidOption(
            "This works on the database, and a service is named (--url or EMBEDMILL_URL).",
            "Name the database with --database-url or --data-dir.",
        )
