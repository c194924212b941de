"""Gathers judged items into chunks, and chunks into the groups that are written together; constant memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from producer.judging import Judged, estimate_tokens
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
        items: Items of the job that came before.
        chunks: Chunks of the job that came before.
    """

    def __init__(self, write: Callable[[list[NewChunk]], None], items: int = 0, chunks: int = 0) -> None:
        self._write = write
        self._open = _OpenChunk()
        self._group: list[NewChunk] = []
        self._group_bytes = 0
        self.items = items
        self.chunks = chunks

    def extend(self, judged: Judged) -> None:
        """Add the next items."""
        ends = np.cumsum(np.minimum(estimate_tokens(judged.texts), _LONGEST))
        start, before = 0, 0
        while start < len(judged.texts):
            # A chunk ends behind the item with which it has tokens enough.
            enough = int(np.searchsorted(ends, before + CHUNK_TOKENS - self._open.tokens)) + 1
            stop = min(enough, start + CHUNK_ITEMS - len(self._open.texts), len(judged.texts))
            self._open.take(judged, start, stop, int(ends[stop - 1]) - before)
            if self._open.tokens >= CHUNK_TOKENS or len(self._open.texts) >= CHUNK_ITEMS:
                self._close_chunk()
                if self._group_bytes >= GROUP_BYTES:
                    self._write_group()
            start, before = stop, int(ends[stop - 1])

    def holds(self, custom_id: str) -> bool:
        """Whether an item that is not written yet has this id."""
        return custom_id in self._open.ids or any(custom_id in (chunk.ids or ()) for chunk in self._group)

    def finish(self) -> list[NewChunk]:
        """Return what was not handed on yet."""
        if self._open.texts:
            self._close_chunk()
        return self._group

    def _close_chunk(self) -> None:
        chunk = self._open.closed(self.chunks, self.items)
        self._group.append(chunk)
        self._group_bytes += sum(map(len, chunk.texts))
        self.items += len(chunk.texts)
        self.chunks += 1
        self._open = _OpenChunk()

    def _write_group(self) -> None:
        self._write(self._group)
        self._group, self._group_bytes = [], 0


class _OpenChunk:
    """A chunk that still takes items."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.ids: list[str] = []
        self.tokens = 0
        self._hashes: list[NDArray[np.uint64]] = []
        self._invalid: dict[int, ItemError] = {}

    def take(self, judged: Judged, start: int, stop: int, tokens: int) -> None:
        """Take the items from `start` to `stop`, which have so many estimated tokens."""
        for place, problem in judged.problems.items():
            if start <= place < stop:
                error = ItemError("invalid_item", f"Refused at the door: {problem}.")
                self._invalid[len(self.texts) + place - start] = error
        self.texts += judged.texts[start:stop]
        self.tokens += tokens
        if judged.ids is not None and judged.id_hashes is not None:
            self.ids += judged.ids[start:stop]
            self._hashes.append(judged.id_hashes[start:stop])

    def closed(self, number: int, first: int) -> NewChunk:
        """Return it as chunk `number`, whose first item is the job's item `first`."""
        ids, hashes = (self.ids, np.concatenate(self._hashes)) if self._hashes else (None, None)
        return NewChunk(number, first, self.texts, self.tokens, ids, self._invalid, hashes)
