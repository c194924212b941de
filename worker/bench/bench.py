"""One measurement of a model: matrix products, the engine on all cores, its stages, and what follows from them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from storage.contract.options import JobOptions
from worker.bench.flops import count_flops
from worker.bench.matrixrate import matrix_rate
from worker.bench.report import Report
from worker.bench.stages import Stages
from worker.engine.checkpoint import resolve
from worker.engine.engine import Engine
from worker.engine.loading import load_engine
from worker.reserve import BULK_THREADS
from worker.settings import WorkerSettings

#: Characters of the texts that one call embeds: about what a chunk holds.
_CHARACTERS_A_CALL = 32_000

#: Which share of the time each part takes; matrix products are measured before the engine and after it.
_PRODUCTS, _ENGINE, _STAGES = 0.1, 0.5, 0.3


def measure(settings: WorkerSettings, device: str, texts: Iterator[str], seconds: float) -> Report:
    """Measure the settings' model on a device.

    Args:
        settings: Model, number type, token budget.
        device: What torch calls the device.
        texts: What is embedded; without end.
        seconds: How long to measure, about, once the model is loaded.

    Raises:
        InvalidOption: When number type, backend and device do not go together.
        MissingExtra: When the backend is not installed.
        ModelError: When the model cannot be served.
        EngineFailed: When the device fails.
    """
    checkpoint = resolve(settings.model, settings.revision)
    asked = (settings.dtype, settings.token_budget, settings.backend)
    engine, setup = load_engine(checkpoint, device, *asked)
    encoder = engine.encoder
    try:
        engine.warm()
        products = (checkpoint.hidden, encoder.precision, encoder.device, engine.cores, seconds * _PRODUCTS)
        before = matrix_rate(*products)
        chunks = _Chunks(texts)
        counted, tokens, passed = _run_engine(engine, chunks, seconds * _ENGINE)
        rate = max(before, matrix_rate(*products))
        stages = Stages(checkpoint, encoder, engine.card, engine.token_budget, engine.cores)
        found = stages.run(chunks, seconds * _STAGES)
    finally:
        engine.stop()
    return Report(
        model=checkpoint.name,
        revision=checkpoint.revision,
        device=encoder.device.type,
        precision=encoder.precision,
        setup=setup,
        cores=engine.cores,
        texts=counted,
        tokens=tokens,
        seconds=passed,
        stages=found,
        padding=stages.padding,
        flops_a_token=count_flops(checkpoint.transformer).of(stages.lengths) / sum(stages.lengths),
        matrix_rate=rate,
    )


class _Chunks:
    """Gives out texts a chunk at a time, to any thread."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self._taking = threading.Lock()

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        chunk: list[str] = []
        room = _CHARACTERS_A_CALL
        with self._taking:
            while room > 0:
                chunk.append(next(self._texts))
                room -= len(chunk[-1])
        return chunk


def _run_engine(engine: Engine, chunks: Iterator[list[str]], seconds: float) -> tuple[int, int, float]:
    """Embed chunks from as many threads as a worker has for bulk; return texts, tokens and the time that took."""
    start = time.perf_counter()

    def embed() -> tuple[int, int]:
        texts = tokens = 0
        while time.perf_counter() - start < seconds:
            found = engine.embed(next(chunks), JobOptions())
            texts += len(found.tokens)
            tokens += int(found.tokens.sum())
        return texts, tokens

    with ThreadPoolExecutor(BULK_THREADS) as threads:
        running = [threads.submit(embed) for _ in range(BULK_THREADS)]
        counts = [one.result() for one in running]
    passed = time.perf_counter() - start
    return sum(texts for texts, _ in counts), sum(tokens for _, tokens in counts), passed
