"""Real paragraphs as they are: those of the docstrings of Python's standard library, which is on every machine."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

#: Folders of the library that are left out: what is installed beside it, and tests.
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"})

#: Shorter ones are titles, in characters.
_SHORTEST = 20

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Docstrings:
    """Gives out paragraphs in a random order, never one twice.

    Args:
        seed: The same seed and the same Python give the same order.
    """

    def __init__(self, seed: int) -> None:
        self._paragraphs = paragraphs()
        self._order = iter(np.random.default_rng(seed).permutation(len(self._paragraphs)))

    def take(self, count: int) -> list[str]:
        """Return the next ones.

        Raises:
            ValueError: When so many are not left.
        """
        texts = [self._paragraphs[place] for _, place in zip(range(count), self._order, strict=False)]
        if len(texts) < count:
            raise ValueError(f"{len(self._paragraphs):,} paragraphs are not enough: measure fewer rounds or tokens")
        return texts


@cache
def paragraphs() -> list[str]:
    """Return every paragraph once, white space made single spaces."""
    return list(dict.fromkeys(text for text in _all() if len(text) > _SHORTEST))


def _all() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(library.rglob("*.py")):
        if _LEFT_OUT.isdisjoint(file.relative_to(library).parts):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, _DOCUMENTED) and (docstring := ast.get_docstring(node)):
                    yield from (" ".join(part.split()) for part in re.split(r"\n\s*\n", docstring))
