"""A tokenizer that reads the same texts once: what is measured with it is the engine without tokenizing."""

from __future__ import annotations

from collections.abc import Sequence

from worker.engine.tokenizing import Encodings, Tokenizer, TokenizerSource


class OnceTokenizer(Tokenizer):
    """Keeps what it made of every list of texts; for measurements, as it forgets nothing.

    Args:
        source: What to build it from.
    """

    def __init__(self, source: TokenizerSource) -> None:
        super().__init__(source, remembering=False)
        self._known: dict[tuple[int, tuple[str, ...]], Encodings] = {}

    def encode(self, texts: Sequence[str], max_length: int) -> Encodings:
        """Return what `Tokenizer.encode` returns, the very same where it was asked before."""
        key = max_length, tuple(texts)
        if key not in self._known:
            self._known[key] = super().encode(texts, max_length)
        return self._known[key]
