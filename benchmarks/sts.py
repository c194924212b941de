"""Spearman's correlation of cosines with people's scores, through the command line and with sentence-transformers."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import model_folder
from benchmarks.peers.peer import Peer, Recipe
from benchmarks.stack import own_stack
from benchmarks.words import Pair, read_pairs

#: Vectors through the queue must be the reference's own; then so are the correlations.
_TOLERANCE = 1e-5


def main() -> None:
    """Print both correlations and the greatest difference of the vectors."""
    asked = _arguments()
    pairs = read_pairs(asked.csv)
    texts = [pair.left for pair in pairs] + [pair.right for pair in pairs]
    if asked.data_dir is not None:
        ours = _through_the_command_line(texts, asked.data_dir)
    else:
        with own_stack(["--dtype", "float32"]) as stack:
            ours = _through_the_command_line(texts, stack.data_dir)
    with Peer(Recipe("sentence-transformers", "sentence_transformers"), model_folder("minilm")) as reference:
        _, theirs = reference.ask("encode", texts)
    difference = float(np.abs(ours - theirs).max())
    print(f"pairs                                  {len(pairs):>8,}")
    print(f"Spearman, embedmill                    {_spearman(ours, pairs):8.4f}")
    print(f"Spearman, sentence-transformers        {_spearman(theirs, pairs):8.4f}")
    print(f"greatest difference of two vectors     {difference:8.1e}")
    if not difference <= _TOLERANCE:  # NaN too
        raise SystemExit(f"The vectors differ by more than {_TOLERANCE}.")


def _through_the_command_line(texts: Sequence[str], data_dir: Path) -> NDArray[np.float32]:
    """Return the vectors that `embedmill embed` writes, one a text."""
    with tempfile.TemporaryDirectory(prefix="embedmill-bench-") as folder:
        source, target = Path(folder) / "texts.jsonl", Path(folder) / "vectors.npy"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        command = [sys.executable, "-m", "embedmill", "embed", str(source), "-o", str(target)]
        subprocess.run([*command, "--data-dir", str(data_dir.absolute())], cwd=folder, check=True)
        vectors: NDArray[np.float32] = np.load(target)
    return vectors


def _spearman(vectors: NDArray[np.float32], pairs: Sequence[Pair]) -> float:
    """Return the rank correlation of the cosines with the scores.

    Args:
        vectors: All left texts' vectors, then all right ones'.
        pairs: The texts and their scores.
    """
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    left, right = directions[: len(pairs)], directions[len(pairs) :]
    cosines = np.einsum("ij,ij->i", left, right)
    scores = np.array([pair.score for pair in pairs])
    return float(np.corrcoef(_ranks(cosines), _ranks(scores))[0, 1])


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return each value's rank; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return ranks[places]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path, help="a file of two texts and a score in each row")
    parser.add_argument("--data-dir", type=Path, help="of a running stack; default: one of its own")
    return parser.parse_args()


if __name__ == "__main__":
    main()
