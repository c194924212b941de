"""Batches through the encoder, rows back to their calls; and whose fault it is when that fails.

A batch that raises is cut in half until one text is left to blame. A vector that is no vector is tried once more, alone
and in float32. A device without memory gets smaller batches. Before a text is charged, a harmless one must have shown
that the encoder still works; where it does not, the engine has failed and no text is charged.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from storage.outcomes import ItemError
from worker import measures
from worker.engine.encoderlike import EncoderLike
from worker.engine.exact import Exact
from worker.engine.failures import EngineFailed, NoVectors, is_out_of_memory
from worker.engine.flight import Flight, Vectors
from worker.engine.tally import Tally
from worker.engine.waiting import WaitingRoom
from worker.engine.window import Batch

_BAD_VECTOR = ItemError("bad_vector", "The vector is zero, not finite, of a wrong width, or too large to be kept.")

_log = logging.getLogger(__name__)


class Runner:
    """Works batches off; used by every thread of an engine.

    Args:
        encoder: The loaded network.
        exact: The same in float32.
        width: Components of a vector before it is cut.
        hidden: Components of a token's state.
        pad_id: What batches are filled up with.
        harmless: Ids of a text that a working encoder embeds.
        room: Where batches come from; its budget follows the device's memory.
        tally: Counts the defences.
    """

    def __init__(
        self,
        encoder: EncoderLike,
        exact: Exact,
        width: int,
        hidden: int,
        pad_id: int,
        harmless: NDArray[np.int32],
        room: WaitingRoom,
        tally: Tally,
    ) -> None:
        self._encoder = encoder
        self._exact = exact
        self._width = width
        self._hidden = hidden
        self._pad_id = pad_id
        self._harmless = torch.from_numpy(harmless.astype(np.int64))[None]
        self._room = room
        self._tally = tally

    def launch(self, batch: Batch) -> Flight:
        """Send a batch to the device; `land` is to be called for each flight, in order."""
        return self._send(self._encoder, batch)

    def land(self, flight: Flight) -> None:
        """Wait for a batch and give each of its texts its vector or its error.

        Args:
            flight: What `launch` returned.

        Raises:
            EngineFailed: When no text is to blame.
        """
        batch, found = flight.batch, flight.land()
        if not isinstance(found, Exception):
            self._measure(batch)
            self._deliver(batch, found)
        elif is_out_of_memory(found):
            self._shrink(batch, found)
        elif len(batch) > 1:
            self._tally.count("batches_bisected")
            self._run_halves(batch)
        else:
            self._blame(batch, found)

    def _measure(self, batch: Batch) -> None:
        tokens = int(batch.lengths.sum())
        padding, room = batch.tokens - tokens, max(batch.tokens, self._room.budget)
        measures.here.count(batches=1, batch_tokens=tokens, batch_padding_tokens=padding, batch_room_tokens=room)

    def _run(self, batch: Batch) -> None:
        if len(batch) > 1 and batch.tokens > self._room.budget:
            self._run_halves(batch)
        else:
            self._room.renew()
            self.land(self.launch(batch))

    def _run_halves(self, batch: Batch) -> None:
        for half in batch.halves():
            self._run(half)

    def _send(self, encoder: EncoderLike, batch: Batch) -> Flight:
        return Flight(batch, encoder, self._width, self._hidden, self._pad_id)

    def _deliver(self, batch: Batch, vectors: list[Vectors]) -> None:
        for found in vectors:
            part = batch if found.rows is None else batch.only(found.rows)
            good = _usable(found)
            for call, rows, numbers in part.by_call():
                kept = good[rows]
                call.deliver(numbers[kept], found.of(rows[kept]))
            for row in np.flatnonzero(~good).tolist():
                self._retry(part.only(np.array([row])))

    def _retry(self, alone: Batch) -> None:
        """Try a text again whose vector was refused: alone, and in float32."""
        self._tally.count("vectors_refused")
        self._room.renew()
        exact = self._exact.encoder()
        found = None if exact is None else self._send(exact, alone).land()
        if isinstance(found, Exception) and is_out_of_memory(found) and exact is not self._encoder:
            self._exact.give_up()
            self._free()
            exact = found = None
        if found is None or not isinstance(found, Exception):
            self._judge(alone, found, exact or self._encoder)
        elif is_out_of_memory(found):
            self._shrink(alone, found)
        else:
            self._blame(alone, found)

    def _judge(self, alone: Batch, found: list[Vectors] | None, encoder: EncoderLike) -> None:
        """Take the second try's vector or, with an encoder that works, charge the text."""
        if found is not None and _usable(found[0]).all():
            for call, _, numbers in alone.by_call():
                call.deliver(numbers, found[0].matrix)
            return
        self._check_harmless(encoder)
        self._reject(alone, _BAD_VECTOR, read=True)

    def _shrink(self, batch: Batch, error: Exception) -> None:
        if self._exact.give_up():
            self._free()
            self._run(batch)
            return
        if len(batch) == 1:
            raise EngineFailed(
                f"The device has no memory for one text of {batch.longest} tokens.",
                "Free memory on the device, or use a smaller max_length or model.",
            ) from error
        self._tally.count("budgets_halved")
        self._room.shrink(batch.tokens // 2)
        _log.warning("out of memory: batches hold at most %d tokens from now on", self._room.budget)
        self._free()
        self._run_halves(batch)

    def _free(self) -> None:
        if self._encoder.device.type == "cuda":
            torch.cuda.empty_cache()

    def _blame(self, alone: Batch, error: Exception) -> None:
        """Charge a failure to the one text of a batch."""
        self._check_harmless(self._encoder)
        kind = type(error).__name__
        self._reject(alone, ItemError("encoder_failed", f"The encoder failed on this text ({kind})."), read=False)

    def _check_harmless(self, encoder: EncoderLike) -> None:
        """Raise where a harmless text fails too: then the text that failed before it is not to blame."""
        try:
            states = encoder.forward(self._harmless.to(encoder.device), None, -1)
            vector = encoder.project(states.float().mean(1))
            works = bool(states.any() and vector.isfinite().all()) and vector.shape[1] == self._width
        except Exception as error:
            raise EngineFailed(
                f"The encoder fails on every text ({type(error).__name__}).", "Restart the worker."
            ) from error
        if not works:
            raise NoVectors("The encoder makes no usable vector of any text.", "Restart the worker.")

    def _reject(self, alone: Batch, error: ItemError, read: bool) -> None:
        for call, _, numbers in alone.by_call():
            for number in numbers.tolist():
                call.reject(number, error, read)


def _usable(found: Vectors) -> NDArray[np.bool_]:
    """Tell which encodings have a vector, or nothing else for states: finite, not zero, small enough to be kept."""
    sizes = np.abs(found.matrix)
    good = np.asarray(np.all(sizes <= found.recipe.largest, axis=1) & np.any(sizes > 0, axis=1))
    if found.counts is None:
        return good
    return np.logical_and.reduceat(good, np.cumsum(found.counts) - found.counts)
