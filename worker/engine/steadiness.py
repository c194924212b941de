"""Rows of a product that are the same numbers whatever rows are beside them.

A library divides a product by how many rows it has, and a sum that is divided otherwise is another one in its last bit.
In bfloat16 the layers behind make more of that: on Intel's matrix unit MiniLM's vectors of a text alone and in company
had a cosine of 0.99998. Where few rows, taken in blocks, give the very numbers that many give at once, they are taken
so. Each size is tried, since what a library does is written nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Rows of a product that others are compared with, and how many those have: around the sizes that kernels are made for.
_MANY = 2048
_SIZES = (1, 8, 16, 31, 32, 33, 48, 64, 65, 100, 128, 200, 256, 300, 383, 384, 385, 512, 700, 1024)

#: Blocks that are tried, and from how many rows on none may be needed: batches of a busy engine have more.
_BLOCKS, _ENOUGH = (32, 16, 8), (64, 128, 256, 384)


@dataclass(frozen=True, slots=True)
class Blocks:
    """How few rows are taken.

    Attributes:
        rows: Rows of a block; 0: all at once, whatever their number.
        enough: Rows from which on all are taken at once.
    """

    rows: int = 0
    enough: int = 0

    def of(self, count: int) -> int:
        """Return how many of so many rows are taken at once."""
        return self.rows if self.rows < count < self.enough else count


def find_blocks(product: Callable[[Tensor], Tensor], inputs: int, dtype: torch.dtype) -> Blocks | None:
    """Return how a product's rows are the same numbers in any company, or None where no way was found.

    Args:
        product: What is multiplied by; of rows of shape (n, inputs), for any n.
        inputs: Components of a row.
        dtype: Their number type.
    """
    rows = torch.randn(_MANY, inputs, generator=torch.Generator().manual_seed(1)).to(dtype)
    whole = product(rows)

    def alike(count: int, block: int) -> bool:
        found = torch.cat([product(some) for some in torch.split(rows[:count], block)])
        return torch.equal(found, whole[:count])

    unlike = [size for size in _SIZES if not alike(size, size)]
    if not unlike:
        return Blocks()
    for enough in _ENOUGH:
        if max(unlike) < enough:
            return _first_alike([Blocks(block, enough) for block in _BLOCKS if block < min(unlike)], alike)
    return None


def _first_alike(candidates: Sequence[Blocks], alike: Callable[[int, int], bool]) -> Blocks | None:
    for blocks in candidates:
        if all(alike(size, blocks.of(size)) for size in _SIZES if size < blocks.enough):
            return blocks
    return None
