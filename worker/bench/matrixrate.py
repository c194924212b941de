"""How fast this device multiplies matrices of a network's shapes: what no encoder can outrun."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.packedlinear import PackedLinear, operators_work

#: Rows of a product: on a CPU about one batch, on a GPU enough to fill it.
_CPU_ROWS, _CUDA_ROWS = 1024, 16_384

#: Products between two looks at the clock.
_PRODUCTS = 4

_TYPES = {"float32": torch.float32, "half": torch.bfloat16, "int8": torch.int8}


def matrix_rate(hidden: int, precision: str, device: torch.device, cores: int, seconds: float) -> float:
    """Return how many operations of matrix products this device does in a second, by the fastest way torch knows.

    Args:
        hidden: Components of a token state; the products are those from it to four times as many, and back.
        precision: `float32`, `half` (bfloat16) or `int8`.
        device: Where.
        cores: On a CPU, so many threads multiply at the same time, on one core each.
        seconds: How long to measure.
    """
    ways = _ways(hidden, _TYPES[precision], device)
    count = cores if device.type == "cpu" else 1
    return max(_rate(way, hidden, device, count, seconds / len(ways)) for way in ways)


def _ways(hidden: int, dtype: torch.dtype, device: torch.device) -> list[Callable[[], None]]:
    """Return functions that multiply there and back: plainly, and on a CPU with weights laid out beforehand."""
    rows = _rows(device)
    if dtype is torch.int8:
        narrow, wide = (torch.ones(rows, width, dtype=dtype, device=device) for width in (hidden, 4 * hidden))
        widening = torch.ones(hidden, 4 * hidden, dtype=dtype, device=device)
        narrowing = torch.ones(4 * hidden, hidden, dtype=dtype, device=device)
        return [lambda: _both(torch._int_mm(narrow, widening), torch._int_mm(wide, narrowing))]
    layers = [nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)]
    widen, narrow_again = (layer.to(device, dtype).requires_grad_(False) for layer in layers)
    few, many = (torch.ones(rows, width, dtype=dtype, device=device) for width in (hidden, 4 * hidden))
    ways: list[Callable[[], None]] = [
        lambda: _both(
            functional.linear(few, widen.weight, widen.bias),
            functional.linear(many, narrow_again.weight, narrow_again.bias),
        )
    ]
    if device.type == "cpu" and operators_work(dtype):
        packed = [PackedLinear(layer) for layer in (widen, narrow_again)]
        ways.append(lambda: _both(packed[0](few), packed[1](many)))
    return ways


def _both(there: Tensor, back: Tensor) -> None:
    """Take both products, so that neither is left out."""


def _rate(way: Callable[[], None], hidden: int, device: torch.device, count: int, seconds: float) -> float:
    """Return the operations a second of one way, by `count` threads at the same time."""
    operations = 2 * _rows(device) * hidden * 4 * hidden * 2
    rates = [0.0] * count
    barrier = threading.Barrier(count)

    def multiply(place: int) -> None:
        with torch.inference_mode():
            way()
            barrier.wait()
            start, done = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < seconds:
                for _ in range(_PRODUCTS):
                    way()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                done += _PRODUCTS
            rates[place] = done * operations / passed

    threads = [threading.Thread(target=multiply, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def _rows(device: torch.device) -> int:
    return _CUDA_ROWS if device.type == "cuda" else _CPU_ROWS
