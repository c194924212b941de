"""The gate of correctness: vectors beside sentence-transformers' in float32, in order, alone and in company."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Contender, GateFailed, Vectors


@dataclass(frozen=True, slots=True)
class Limits:
    """What vectors of one precision have to keep to.

    Args:
        mean: Least mean of the cosines to the reference.
        least: Least of them.
        company: Least cosine of a text's vector alone and the same text's in a batch of others.
        difference: Most that any component may differ from the reference's.
    """

    mean: float
    least: float
    company: float
    difference: float = np.inf


#: Int8's loss is a property of the model and is reported; its limits only find what is no embedding of the text at all.
LIMITS = {
    "float32": Limits(mean=0.999999, least=0.999999, company=0.999999, difference=1e-5),
    "half": Limits(mean=0.9999, least=0.9998, company=0.9999),
    "int8": Limits(mean=0.98, least=0.9, company=0.999),
}


class Closeness:
    """How close one contender's vectors are to the reference's, over all sets.

    Args:
        precision: Which limits hold.
    """

    def __init__(self, precision: str) -> None:
        self._limits = LIMITS[precision]
        self._cosines: list[NDArray[np.float64]] = []
        self._difference = 0.0
        self._company: float | None = None
        self._singly: float | None = None

    def add(self, found: Vectors, reference: Vectors) -> None:
        """Compare the vectors of one set, row by row, so that order counts.

        Raises:
            GateFailed: When they are not as close as they must be.
        """
        if found.shape != reference.shape:
            raise GateFailed(f"the vectors have the shape {found.shape}, not {reference.shape}")
        if not np.isfinite(found).all():
            raise GateFailed("a vector is not finite")
        cosines = cosine(found, reference)
        self._cosines.append(cosines)
        self._difference = max(self._difference, float(np.abs(found - reference).max()))
        limits = self._limits
        if cosines.mean() < limits.mean or cosines.min() < limits.least or self._difference > limits.difference:
            raise GateFailed(
                f"cosines to the reference: mean {cosines.mean():.6f}, least {cosines.min():.6f}; "
                f"largest difference {self._difference:.1e}"
            )

    def isolate(self, contender: Contender, texts: list[str], company: Vectors, singly: Vectors) -> None:
        """Embed texts one at a time.

        Args:
            contender: Whose vectors are looked at.
            texts: Some texts.
            company: Its vectors of these texts among many others.
            singly: The reference's vectors of these texts, one at a time.

        Raises:
            GateFailed: When a text's vector depends on its company, or is not close to the reference's.
        """
        alone = []
        for text in texts:
            contender.run([text])
            vectors = contender.vectors()
            assert vectors is not None
            alone.append(vectors)
        matrix = np.concatenate(alone)
        self._company = float(cosine(matrix, company).min())
        self._singly = float(min(cosine(matrix, singly).min(), cosine(company, singly).min()))
        if self._company < self._limits.company:
            raise GateFailed(f"alone and in company a text's vectors have a cosine of {self._company:.6f}")
        if self._singly < self._limits.least:
            raise GateFailed(f"the least cosine to the reference's vector of a single text is {self._singly:.6f}")

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        cosines = np.concatenate(self._cosines) if self._cosines else None
        kept = None if cosines is None else {"mean": round(cosines.mean(), 7), "least": round(cosines.min(), 7)}
        return {
            "cosine": kept,
            "largest_difference": self._difference,
            "alone_and_in_company": None if self._company is None else round(self._company, 7),
            "to_single_texts": None if self._singly is None else round(self._singly, 7),
        }


def cosine(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    """Return the cosines of vectors row by row, shape (rows,)."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    products: NDArray[np.float64] = np.einsum("ij,ij->i", a, b)
    cosines: NDArray[np.float64] = products / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosines
