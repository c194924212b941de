"""The gate of correctness lets no wrong vectors through: the benchmark has no result then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.contenders import GateFailed, Vectors
from benchmarks.gate import Closeness

TEXTS = ["rain", "snow", "hail", "fog"]


@pytest.fixture
def reference() -> Vectors:
    """Vectors of length 1, one a text."""
    vectors = np.random.default_rng(7).standard_normal((len(TEXTS), 32)).astype(np.float32)
    normalised: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised


class Fixed:
    """Embeds a text by looking it up, always the same, or a little off when it is alone."""

    name = "fixed"
    precision = "half"
    pid = 0
    has_client_here = False

    def __init__(self, vectors: Vectors, alone_off: float = 0.0) -> None:
        self.description: dict[str, Any] = {}
        self._vectors = vectors
        self._off = alone_off
        self._last: Vectors | None = None

    def run(self, texts: list[str]) -> float:
        found = self._vectors[[TEXTS.index(text) for text in texts]]
        self._last = found + self._off * (len(texts) == 1) * np.roll(found, 1, axis=1)
        return 1.0

    def vectors(self) -> Vectors | None:
        return self._last


def test_the_same_vectors_pass_in_every_precision(reference: Vectors) -> None:
    # Given vectors that are the reference's own, when they are compared, then all precisions let them through
    for precision in ("float32", "half", "int8"):
        close = Closeness(precision)
        close.add(reference.copy(), reference)
        assert close.summary()["cosine"] == {"mean": 1.0, "least": 1.0}


def _swapped(vectors: Vectors) -> NDArray[Any]:
    return vectors[[1, 0, 2, 3]]


def _with_nan(vectors: Vectors) -> NDArray[Any]:
    return np.where(np.arange(vectors.size).reshape(vectors.shape) == 5, np.nan, vectors)


def _one_short(vectors: Vectors) -> NDArray[Any]:
    return vectors[:-1]


def _coarse(vectors: Vectors) -> NDArray[Any]:
    return np.round(vectors * 8) / 8


@pytest.mark.parametrize("spoil", [_swapped, _with_nan, _one_short, _coarse])
def test_wrong_vectors_fail(spoil: Any, reference: Vectors) -> None:
    # Given vectors in another order, not finite, too few, or coarser than bfloat16 makes them
    found = spoil(reference)
    # When they are compared, then there is no result
    with pytest.raises(GateFailed):
        Closeness("half").add(found.astype(np.float32), reference)


def test_float32_must_be_nearer_than_half_precision(reference: Vectors) -> None:
    # Given vectors that differ by a thousandth in one component
    found = reference.copy()
    found[0, 0] += 1e-3
    # When they are compared, then half precision may, and float32 may not
    Closeness("half").add(found, reference)
    with pytest.raises(GateFailed, match="largest difference"):
        Closeness("float32").add(found, reference)


def test_a_vector_that_depends_on_its_company_fails(reference: Vectors) -> None:
    # Given one who makes the same vectors alone, and one who does not
    same, other = Fixed(reference), Fixed(reference, alone_off=0.05)
    # When texts are embedded alone, then only the second fails
    close = Closeness("half")
    close.isolate(same, TEXTS[:2], reference[:2], reference[:2])
    close.add(reference, reference)
    assert close.summary()["alone_and_in_company"] == 1.0
    with pytest.raises(GateFailed, match="alone and in company"):
        Closeness("half").isolate(other, TEXTS[:2], reference[:2], reference[:2])
