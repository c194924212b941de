"""The engine on a GPU beside its floor and its rivals, in one run; needs torch, transformers and this repository alone.

Run from the repository's folder; a few minutes on one GPU:

    python -m benchmarks.gpu --output figures.json
    python -m benchmarks.gpu --tiny                     # seconds, on any machine: tries the script, measures nothing

Networks have random weights and the shapes of BERT-base and MiniLM-L6; texts are made of invented words, new ones each
round. Everybody is measured on the same texts, forth and back in each round; shown is the median of the rounds. The
floor is what the network's matrix products take at the rate of one large bfloat16 product, measured in this run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.gpu_rivals import OTHER_HALF, Ours, Rival, rivals_of
from benchmarks.invented import Texts, lengths_of, make_model, texts_of
from storage.contract.options import JobOptions
from worker.engine.checkpoint import Checkpoint
from worker.engine.engine import Engine
from worker.engine.gpu import this_gpu
from worker.engine.oncetokenizer import OnceTokenizer
from worker.engine.precision import choose_precision
from worker.engine.processor import this_processor
from worker.engine.trials import Trials

#: Layers, components and heads, and how many times as many tokens make a run: a small network is through sooner.
SHAPES = {"BERT-base": (12, 768, 12, 1), "MiniLM-L6": (6, 384, 12, 4)}
TINY_SHAPES = {"tiny": (2, 64, 2, 1)}

#: What texts are embedded: of so many tokens each, and of all lengths.
KINDS = ("50", "512", "mixed")

#: Most seconds of a worker's first start in which number types are compared.
_CHOOSING = 20.0

#: Calls that a run is made of.
_CHUNKS = 12


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Args:
        tokens: Of a run, about.
        rounds: Measured after one that warms.
        longest: Tokens of the longest text.
        product: Rows of the large matrix.
        seconds: Of a network and a kind of texts, after which no other round begins.
    """

    tokens: int
    rounds: int
    longest: int
    product: int
    seconds: float


def product_rate(size: int, device: str) -> float:
    """Return how many FLOP a second a large bfloat16 matrix product does: the median of ten, on random numbers."""
    left, right = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    return 2 * size**3 / statistics.median(_timed(lambda: left @ right, device) for _ in range(13))


def _timed(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def flop_a_token(layers: int, hidden: int, lengths: NDArray[np.int64]) -> float:
    """Matrix products and attention of an average token; attention reads the whole text that the token stands in."""
    seen = float((lengths**2).sum() / lengths.sum())
    return layers * (24 * hidden**2 + 4 * seen * hidden)


def busy_share(ours: Ours, chunks: list[Texts]) -> float | None:
    """Return which share of a run's time the GPU computed, by the profiler; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    try:
        return _busy_share(ours, chunks)
    except RuntimeError as error:  # where others profile too, or may not; the other figures are worth more
        print(f"    the profiler does not work here: {error}", flush=True)
        return None


def _busy_share(ours: Ours, chunks: list[Texts]) -> float:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        seconds, _ = ours.run(chunks)
    kernels = sorted(profile.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    for kernel in kernels[:8]:
        print(f"    {kernel.self_device_time_total / 1e4 / seconds:5.1f} %  {kernel.key[:100]}")
    return float(sum(kernel.self_device_time_total for kernel in kernels)) / 1e6 / seconds


def measure(
    name: str, shape: tuple[int, int, int, int], rate: float, sizes: Sizes, asked: argparse.Namespace, folder: Path
) -> Iterator[dict[str, Any]]:
    """Measure one network: everybody on every kind of texts; then budgets; then whether the vectors are right.

    Yields what there is by then, after each of these: whoever is cut off has the rest.
    """
    layers, hidden, heads, times = shape
    checkpoint = make_model(folder / name, layers, hidden, heads)
    rivals = rivals_of(checkpoint, asked.device, asked.dtype, asked.budget)
    dice = np.random.default_rng(11)
    figures: dict[str, Any] = {}
    for kind in KINDS:
        until = time.perf_counter() + sizes.seconds
        rates: dict[str, list[float]] = {rival: [] for rival in rivals}
        for turn in range(sizes.rounds + 1):
            if turn > 1 and time.perf_counter() > until:
                break
            lengths = lengths_of(kind, sizes.tokens * times, sizes.longest, dice)
            chunks = _chunks(texts_of(lengths, dice), -(-len(lengths) // _CHUNKS))
            for rival in [*rivals, *reversed(rivals)]:
                seconds, vectors = rivals[rival].run(chunks)
                assert np.isfinite(vectors).all() and len(vectors) == len(lengths), f"{rival}: no vectors"
                if turn:  # the first round warms everybody
                    rates[rival].append(float(lengths.sum()) / seconds)
        floor = rate / flop_a_token(layers, hidden, lengths)
        rows = {rival: {"median": statistics.median(each), "rounds": each} for rival, each in rates.items()}
        figures[kind] = {"floor": floor, "tokens_per_second": rows, "mean_length": float(lengths.mean())}
        best = getattr(rivals.get("sentence-transformers"), "best", None)
        told = ", ".join(f"{rival} {statistics.median(each):,.0f}" for rival, each in rates.items())
        print(f"{name}, {kind}, {len(rates['engine']) // 2} rounds: {told}", flush=True)
        if best is not None:
            figures[kind]["sentence_transformers_batch_size"] = best
            rivals["sentence-transformers"].best = None  # type: ignore[union-attr]
        yield figures
    ours = rivals["engine"]
    assert isinstance(ours, Ours)
    print(f"{name}: {ours.engine._encoder.packing}, where its time goes on mixed texts:")
    figures["correctness"] = correctness(checkpoint, rivals, chunks[0][: 16 if asked.tiny else 200], asked)
    yield figures
    figures["auto"] = chosen_precision(checkpoint, asked.device)
    figures["busy"] = busy_share(ours, chunks)
    yield figures
    figures["budgets"] = {budget: _budget(checkpoint, budget, chunks, asked) for budget in asked.budgets}
    yield figures
    for rival in rivals.values():
        if isinstance(rival, Ours):
            rival.engine.stop(wait=10)


def _chunks(texts: Texts, size: int) -> list[Texts]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _budget(checkpoint: Checkpoint, budget: int, chunks: list[Texts], asked: argparse.Namespace) -> float:
    once = OnceTokenizer(checkpoint)
    ours = Ours(Engine(checkpoint, asked.device, asked.dtype, budget, tokenizer=once), once)
    tokens = sum(len(text.split()) + 2 for text in itertools.chain(*chunks))
    seconds = [ours.run(chunks)[0] for _ in range(4)][1:]
    ours.engine.stop(wait=10)
    return tokens / statistics.median(seconds)


def correctness(
    checkpoint: Checkpoint, rivals: dict[str, Rival], texts: Texts, asked: argparse.Namespace
) -> dict[str, float]:
    """Return least cosines: to float32 one text at a time, of a text alone and in company, and between two texts."""
    exact = Engine(checkpoint, asked.device, "float32")
    wanted = np.concatenate([exact.embed([text], JobOptions(normalize=True)).vectors for text in texts])
    exact.stop(wait=10)
    found: dict[str, float] = {}
    for rival, name in (("engine", ""), (OTHER_HALF, f"{OTHER_HALF} ")):
        together = rivals[rival].run([texts])[1]
        alone = np.concatenate([rivals[rival].run([[text]])[1] for text in texts])
        found[f"{name}to float32"] = float((together * wanted).sum(1).min())
        found[f"{name}alone and in company"] = float((together * alone).sum(1).min())
        if rival == "engine":
            padded = rivals["padded baseline"].run([texts])[1]
            found["to padded"] = float((together * padded).sum(1).min())
    return found | {"between neighbours, at most": float((wanted[1:] * wanted[:-1]).sum(1).max())}


def chosen_precision(checkpoint: Checkpoint, device: str) -> str:
    """Return what `--dtype auto` would choose here, why, and how long that took."""
    start = time.perf_counter()
    place = this_gpu(device) if device.startswith("cuda") else this_processor()
    found = choose_precision(Trials(checkpoint, place, _CHOOSING))
    return f"{found.dtype} ({found.why}), after {time.perf_counter() - start:.1f} s"


def show(figures: dict[str, Any]) -> None:
    """Print the table: million tokens a second, and what of the floor that is."""
    print(
        f"\n{figures['device']}, torch {figures['torch']}, transformers {figures['transformers']}, {figures['dtype']}"
    )
    print(f"one large bf16 matrix product: {figures['product_rate'] / 1e12:.1f} TFLOP/s; million tokens a second:")
    for name, found in figures["models"].items():
        _show(name, found)


def _show(name: str, found: dict[str, Any]) -> None:
    kinds = {kind: found[kind] for kind in KINDS if kind in found}
    print(f"{name:<24}" + "".join(f"{kind:>10}" for kind in kinds))
    print(f"{'  floor':<24}" + "".join(f"{each['floor'] / 1e6:10.3f}" for each in kinds.values()))
    for rival in next(iter(kinds.values()))["tokens_per_second"]:
        medians = [each["tokens_per_second"][rival]["median"] for each in kinds.values()]
        print(f"{'  ' + rival:<24}" + "".join(f"{median / 1e6:10.3f}" for median in medians))
    shares = [each["tokens_per_second"]["engine"]["median"] / each["floor"] for each in kinds.values()]
    print(f"{'  engine / floor':<24}" + "".join(f"{share:10.1%}" for share in shares))
    budgets = (f"{size}: {rate / 1e6:.3f}" for size, rate in found.get("budgets", {}).items())
    print(f"  budgets, mixed: {', '.join(budgets)}")
    busy = "not measured" if found.get("busy") is None else f"{found['busy']:.1%}"
    told = "; ".join(f"{what} {cosine:.6f}" for what, cosine in found.get("correctness", {}).items())
    print(f"  --dtype auto: {found.get('auto', 'not measured')}")
    print(f"  GPU busy: {busy}; least cosines: {told}", flush=True)


def main() -> None:
    """Measure, write the figures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small network and few texts, to try the script")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16"))
    parser.add_argument("--tokens", type=int, default=1_500_000, help="of a run, about; default 1500000")
    parser.add_argument("--rounds", type=int, default=3, help="after one that warms; default 3")
    parser.add_argument("--seconds", type=float, default=300, help="after which no other round begins; default 300")
    parser.add_argument("--budget", type=int, help="tokens of a batch; default: the engine's own")
    parser.add_argument("--budgets", type=int, nargs="*", default=[16_384, 65_536, 131_072], help="tried besides")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES), help="default: all")
    parser.add_argument("--output", type=Path, help="where the figures are written, as JSON")
    asked = parser.parse_args()
    share = asked.seconds / len(asked.models) / len(KINDS)
    sizes = Sizes(asked.tokens, asked.rounds, longest=512, product=8192, seconds=share)
    shapes = {name: SHAPES[name] for name in asked.models}
    if asked.tiny:
        shapes, asked.budgets = TINY_SHAPES, [256]
        sizes = Sizes(tokens=1000, rounds=1, longest=64, product=256, seconds=share)
    rate = product_rate(sizes.product, asked.device)
    models: dict[str, Any] = {}
    figures = {
        "device": torch.cuda.get_device_name() if asked.device.startswith("cuda") else "a CPU, which proves nothing",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": asked.dtype,
        "tiny": asked.tiny,
        "product_rate": rate,
        "models": models,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in shapes.items():
            for found in measure(name, shape, rate, sizes, asked, Path(folder)):
                models[name] = found
                if asked.output is not None:
                    asked.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            show(figures)


if __name__ == "__main__":
    main()
