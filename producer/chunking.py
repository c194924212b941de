"""Gathers judged items into chunks, and chunks into the groups that are written together; constant memory."""

from __future__ import annotations

from collections.abc import Callable

from storage.chunks import NewChunk
from storage.outcomes import ItemError

#: A chunk is closed at about so many estimated tokens: a second on a CPU, some milliseconds on a GPU.
CHUNK_TOKENS = 8_000

#: Most items of a chunk, so that short texts too come back in steps.
CHUNK_ITEMS = 1_024

#: Texts written in one transaction, in bytes: long enough to be fast, short enough that other writers need not wait.
GROUP_BYTES = 1_000_000

#: A text counts as at most so many tokens: what is beyond is usually cut.
_LONGEST = 512


class Chunker:
    """Gathers items into chunks and hands groups of chunks on.

    Args:
        write: Takes a group of chunks, about a megabyte of text.
        with_ids: Whether items have callers' ids.
    """

    def __init__(self, write: Callable[[list[NewChunk]], None], with_ids: bool) -> None:
        self._write = write
        self._ids: list[str] | None = [] if with_ids else None
        self._texts: list[bytes] = []
        self._invalid: dict[int, ItemError] = {}
        self._tokens = 0
        self._group: list[NewChunk] = []
        self._group_bytes = 0
        self.items = 0
        self.chunks = 0

    def add(self, encoded: bytes, tokens: int, custom_id: str = "", problem: str | None = None) -> None:
        """Add the next item.

        Args:
            encoded: Its text in UTF-8; empty when it is invalid.
            tokens: Its estimated tokens.
            custom_id: The caller's id.
            problem: Why it is invalid, or None.
        """
        if problem is not None:
            self._invalid[len(self._texts)] = ItemError("invalid_item", f"Refused at the door: {problem}.")
        self._texts.append(encoded)
        if self._ids is not None:
            self._ids.append(custom_id)
        self._tokens += min(tokens, _LONGEST)
        self._group_bytes += len(encoded)
        if self._tokens >= CHUNK_TOKENS or len(self._texts) >= CHUNK_ITEMS:
            self._close_chunk()
            if self._group_bytes >= GROUP_BYTES:
                self._write_group()

    def holds(self, custom_id: str) -> bool:
        """Whether an item that is not written yet has this id."""
        unwritten = [self._ids, *(chunk.ids for chunk in self._group)]
        return any(ids is not None and custom_id in ids for ids in unwritten)

    def finish(self) -> list[NewChunk]:
        """Return what is left to write."""
        if self._texts:
            self._close_chunk()
        return self._group

    def _close_chunk(self) -> None:
        chunk = NewChunk(self.chunks, self.items, self._texts, self._tokens, self._ids, self._invalid)
        self._group.append(chunk)
        self.items += len(self._texts)
        self.chunks += 1
        self._texts, self._invalid, self._tokens = [], {}, 0
        self._ids = None if self._ids is None else []

    def _write_group(self) -> None:
        self._write(self._group)
        self._group, self._group_bytes = [], 0
