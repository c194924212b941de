"""How an engine is best run on this machine: number type, token budget, cores; what is not asked for is measured.

It is measured once for a model on a processor or a kind of GPU, and then remembered: jobs are bound to the precision of
their vectors, so that a worker that starts again must choose the same.
"""

from __future__ import annotations

import ctypes
import gc
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from storage.contract.errors import ModelError
from worker.engine.checkpoint import Checkpoint
from worker.engine.division import choose_batching
from worker.engine.encoder import Encoder
from worker.engine.engine import CPU_TOKEN_BUDGET
from worker.engine.gpu import Gpu, this_gpu
from worker.engine.precision import choose_precision
from worker.engine.processor import Processor, this_processor
from worker.engine.records import Batching, Record, Records
from worker.engine.trials import Trials

#: Most seconds that measuring takes; what could not be measured keeps its default.
SECONDS = 20.0

#: Raised whenever other results may come of the same machine and model.
_VERSION = 1

#: Measurements that did not end, because the process did, after which there is no other.
_ATTEMPTS = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to run an engine.

    Args:
        dtype: What to compute in.
        why: The reason, in a few words.
        token_budget: Most tokens of a batch; None takes what suits the device.
        cores: CPU cores, each for a batch of its own; None takes all.
        threads: CPU threads that compute one batch.
        encoder: The network, where it was loaded to be measured.
    """

    dtype: str
    why: str
    token_budget: int | None = None
    cores: int | None = None
    threads: int = 1
    encoder: Encoder | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What `Engine` is to be given."""
        return {name: getattr(self, name) for name in ("dtype", "token_budget", "cores", "threads", "encoder")}

    def __str__(self) -> str:
        """Return it in one short sentence."""
        at_a_time = f", batches of {self.token_budget} tokens, {self.cores} at a time" if self.cores else ""
        return f"{self.dtype} ({self.why}){at_a_time}"


def tune(
    checkpoint: Checkpoint,
    device: str = "cpu",
    dtype: str = "auto",
    token_budget: int | None = None,
    backend: str = "torch",
    folder: Path | None = None,
    seconds: float = SECONDS,
) -> Tuning:
    """Find out how to run an engine; what is asked for stays as it is.

    Args:
        checkpoint: The model.
        device: `cpu`, `cuda` or `cuda:n`.
        dtype: `auto`, `float32`, `bfloat16`, `float16` or `int8`.
        token_budget: Most tokens of a batch; None has it measured on a CPU, as well as how many are computed at a time.
        backend: `torch` or `openvino`; nothing is measured for OpenVINO, which chooses by itself.
        folder: Where measurements are remembered; None: in the user's cache folder.
        seconds: Most seconds that measuring takes; another process that measures here is waited for as long.

    Raises:
        ModelBroken: When the checkpoint's files do not make a whole model.
    """
    if device == "cpu" and dtype == "bfloat16" and not this_processor().multiplies_bfloat16:
        _log.warning("bfloat16 was asked for, but this processor has no products of it: --dtype auto is faster here")
    if backend != "torch":
        return Tuning(dtype, "the backend's own choice" if dtype == "auto" else "as asked", token_budget)
    place = this_processor() if device == "cpu" else this_gpu(device)
    return _Tuner(checkpoint, place, dtype, token_budget, Records(folder), seconds).tune()


class _Tuner:
    def __init__(
        self,
        checkpoint: Checkpoint,
        place: Processor | Gpu,
        dtype: str,
        token_budget: int | None,
        records: Records,
        seconds: float,
    ) -> None:
        self._checkpoint = checkpoint
        self._place = place
        self._dtype = dtype
        self._budget = token_budget
        self._usual = Batching(token_budget=token_budget or CPU_TOKEN_BUDGET, cores=place.cores)
        self._measures_batching = token_budget is None and isinstance(place, Processor)
        self._records = records
        self._seconds = seconds
        model = f"{checkpoint.name} {checkpoint.revision}"
        versions = f"torch {torch.__version__}, calibration {_VERSION}"
        self._record = Record(key="\n".join((model, place.identity, versions)))

    def tune(self) -> Tuning:
        if self._dtype != "auto" and not self._measures_batching:
            return self._tuning()
        self._record = self._records.read(self._record.key)
        if self._is_complete:
            return self._tuning()
        with self._records.alone(self._seconds):
            self._record = self._records.read(self._record.key)
            if self._is_complete or self._has_failed:
                return self._tuning()
            return self._tuning(self._measure())

    @property
    def _chosen(self) -> str | None:
        """What to compute in, as far as it is known."""
        if self._dtype != "auto":
            return self._dtype
        return self._record.dtype if self._place.halves else "float32"

    @property
    def _is_complete(self) -> bool:
        known = self._chosen in self._record.batchings or not self._measures_batching
        return self._chosen is not None and known

    @property
    def _has_failed(self) -> bool:
        if self._record.attempts < _ATTEMPTS:
            return False
        path = self._records.path(self._record.key)
        _log.warning("measuring did not end, %d times: not tried again while there is %s", _ATTEMPTS, path)
        return True

    def _measure(self) -> Encoder | None:
        """Measure what is not known, keep it, and return the network in the number type that was chosen."""
        # Should this end the process, which takes memory for two networks, it must not do so for ever.
        self._note(attempts=self._record.attempts + 1)
        _log.info("measuring once what is fastest here, at most %.0f s; what is set is not measured", self._seconds)
        try:
            trials = Trials(self._checkpoint, self._place, self._seconds)
            if self._chosen is None:
                found = choose_precision(trials)
                self._note(dtype=found.dtype, why=found.why)
                if not found.was_tried:
                    _log.warning("%s; to measure again, remove %s", found.why, self._records.path(self._record.key))
            dtype = self._chosen or self._place.usual_dtype
            trials.keep_only(dtype)
            if self._measures_batching:
                batching = choose_batching(trials, dtype, self._usual)
                self._note(batchings=self._record.batchings | {dtype: batching})
            self._note(attempts=0)
            return trials.encoder(dtype)
        except ModelError:
            raise
        except Exception as error:  # torch raises many kinds; none of them is worth more than the defaults
            _log.warning("measuring failed (%s: %s): the defaults are taken", type(error).__name__, error)
            return None
        finally:
            _free_memory()

    def _note(self, **facts: object) -> None:
        self._record = self._record.model_copy(update=facts)
        self._records.write(self._record)

    def _tuning(self, encoder: Encoder | None = None) -> Tuning:
        dtype = self._chosen or self._place.usual_dtype
        if self._dtype != "auto":
            why = "as asked"
        elif not self._place.halves:
            why = "this processor multiplies no bfloat16"
        else:
            why = self._record.why or "half precision could not be measured"
        if isinstance(self._place, Gpu):
            return Tuning(dtype, why, self._budget, encoder=encoder)
        batching = self._record.batchings.get(dtype, self._usual) if self._measures_batching else self._usual
        return Tuning(dtype, why, batching.token_budget, batching.cores, batching.threads, encoder)


def _free_memory() -> None:
    """Give the memory of what was dropped back to GPU and kernel, where allocators keep it."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # there is no glibc everywhere
        ctypes.CDLL(None).malloc_trim(0)
