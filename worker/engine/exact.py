"""The network once more, by torch and in float32, for texts whose vectors the encoder in use cannot make."""

from __future__ import annotations

import logging
import threading

from storage.contract.errors import ModelBroken
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import Encoder
from worker.engine.encoderlike import EncoderLike
from worker.engine.failures import is_out_of_memory

_log = logging.getLogger(__name__)


class Exact:
    """A float32 encoder of a checkpoint, loaded when it is first needed and kept while there is room for it.

    Args:
        checkpoint: What to load.
        encoder: The encoder in use; it is the exact one itself where torch computes it in float32.
    """

    def __init__(self, checkpoint: Checkpoint, encoder: EncoderLike) -> None:
        self._checkpoint = checkpoint
        self._device = encoder.device
        is_exact = isinstance(encoder, Encoder) and encoder.precision == "float32"
        self._found: EncoderLike | None = encoder if is_exact else None
        self._is_copy = self._found is None
        self._given_up = False
        self._loading = threading.Lock()

    def encoder(self) -> EncoderLike | None:
        """Return the float32 encoder, or None where there is no room for it."""
        with self._loading:
            if self._found is None and not self._given_up:
                self._found = self._load()
                self._given_up = self._found is None
            return self._found

    def give_up(self) -> bool:
        """Free the copy's memory for good; the encoder in use stays.

        Returns:
            Whether there was a copy.
        """
        with self._loading:
            if not self._is_copy or self._found is None:
                return False
            self._found, self._given_up = None, True
        _log.warning("no room for a copy in float32: vectors that half precision cannot hold are errors from now on")
        return True

    def _load(self) -> Encoder | None:
        try:
            return Encoder(self._checkpoint, str(self._device), "float32")
        except Exception as error:
            if not isinstance(error, ModelBroken) and not is_out_of_memory(error):
                raise
            _log.warning("no copy in float32 (%s): vectors that half precision cannot hold are errors", error)
            return None
