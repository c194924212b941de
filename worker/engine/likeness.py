"""For which models the network that is read from their files was seen to answer as transformers' own does.

It is compared at a model's first start on a processor, in each number type, and then remembered: later starts need no
transformers, which saves them seconds and 140 MiB.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worker.engine.bertfiles import read_bert
from worker.engine.checkpoint import Checkpoint
from worker.engine.flatbert import FlatBert, flat_network
from worker.engine.processor import this_processor
from worker.engine.records import Record, Records

#: Raised whenever another network may come of the same files.
_VERSION = 1

#: Comparisons that did not come to a good end, after which there is no other.
_ATTEMPTS = 3

_log = logging.getLogger(__name__)


class Likeness:
    """What is known of one model.

    Args:
        checkpoint: The model.
        dtype: What it is to compute in.
        folder: Where it is remembered; None: in the user's cache folder.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, folder: Path | None = None) -> None:
        self._folder = checkpoint.transformer
        self._dtype = dtype
        self._name = str(dtype).removeprefix("torch.")
        model = f"{checkpoint.name} {checkpoint.revision}"
        versions = f"torch {torch.__version__}, transformers {version('transformers')}, likeness {_VERSION}"
        self._key = "\n".join((model, this_processor().identity, versions))
        self._records = Records(folder)

    @property
    def is_known(self) -> bool:
        """Whether the network from the files was seen to answer as transformers' own."""
        return self._name in self._record.alike

    def known(self) -> FlatBert | None:
        """Return the network from the files where it is known to answer alike."""
        return self._read() if self.is_known else None

    def candidate(self, own: Any) -> FlatBert | None:
        """Return the network from the files, to be compared, where it has the very weights of transformers'.

        Args:
            own: transformers' network, in the same number type.
        """
        # Should the memory for both end this process, it must not do so for ever.
        record = self._record
        if record.attempts >= _ATTEMPTS:
            return None
        self._records.write(record.model_copy(update={"attempts": record.attempts + 1}))
        return self._read(own)

    def note(self) -> None:
        """Remember that it answers alike."""
        alike = sorted({*self._record.alike, self._name})
        self._records.write(self._record.model_copy(update={"alike": alike, "attempts": 0}))

    @property
    def _record(self) -> Record:
        return self._records.read(self._key)

    def _read(self, own: Any = None) -> FlatBert | None:
        try:
            network = read_bert(self._folder, self._dtype)
            if network is None or (own is not None and not _has_weights_of(own, network)):
                return None
            return flat_network(network, self._dtype)
        except Exception as error:  # safetensors and torch raise many kinds; if the files are to blame, it will be told
            _log.info("transformers must read %s (%s: %s)", self._folder, type(error).__name__, error)
            return None


def _has_weights_of(own: nn.Module, network: nn.Module) -> bool:
    """Tell whether every tensor of a network is the other's: a comparison of answers does not see all of them."""
    theirs = own.state_dict()
    return all(name in theirs and torch.equal(tensor, theirs[name]) for name, tensor in network.state_dict().items())
