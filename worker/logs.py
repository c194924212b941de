"""Log lines of worker machines; as everywhere, ids and counts only, never a text."""

from storage.logs import configure

__all__ = ["configure"]
