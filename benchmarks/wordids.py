"""What remembered words save of the tokenizer's processor time, on real paragraphs: python -m benchmarks.wordids.

Both tokenize the same texts, in turn, in chunks as jobs have them; before the first round no word is known. That both
give the same ids is checked for every text.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.docstrings import paragraphs
from benchmarks.machine import describe
from benchmarks.models import model_folder
from benchmarks.results import Kept, console, spread
from worker.engine.checkpoint import resolve
from worker.engine.tokenizing import Encodings, Tokenizer

_ROUNDS, _IN_A_CHUNK, _MAX_LENGTH = 7, 128, 256


def main() -> None:
    """Measure and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="wordids", help="name of the results")
    output = parser.parse_args().output
    machine = describe()
    checkpoint = resolve(str(model_folder("minilm")))
    ways = {"tokenizer": Tokenizer(checkpoint, remembering=False), "words": Tokenizer(checkpoint)}
    texts = paragraphs()
    chunks = [texts[start : start + _IN_A_CHUNK] for start in range(0, len(texts), _IN_A_CHUNK)]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(_ROUNDS):
        found = {}
        for name in sorted(ways, reverse=bool(round_ % 2)):
            used, found[name] = _tokenize(ways[name], chunks)
            seconds[name].append(used)
        for one, other in zip(found["tokenizer"], found["words"], strict=True):
            assert np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets)
    tokens = sum(len(chunk.ids) for chunk in found["words"])
    told = {name: spread([used / tokens * 1e6 for used in all_]) for name, all_ in seconds.items()}
    times = spread([a / b for a, b in zip(seconds["tokenizer"], seconds["words"], strict=True)], 2)
    section = {"machine": machine, "texts": len(texts), "tokens": tokens, "processor_us_a_token": told, "times": times}
    section["first_round_us_a_token"] = round(seconds["words"][0] / tokens * 1e6, 3)
    Kept(output).put("minilm", section)
    console.print(section)


def _tokenize(tokenizer: Tokenizer, chunks: list[list[str]]) -> tuple[float, list[Encodings]]:
    """Return the processor time of all threads, and what came of it."""
    start = time.process_time()
    done = [tokenizer.encode(chunk, _MAX_LENGTH) for chunk in chunks]
    return time.process_time() - start, done


if __name__ == "__main__":
    main()
