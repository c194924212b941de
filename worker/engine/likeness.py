"""For which models the network that is read from their files was seen to answer as transformers' own does.

It is compared at a model's first start on a processor, in each number type, and then remembered: later starts need no
transformers, which saves them seconds and 140 MiB.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path

import torch

from worker.engine.bertfiles import read_bert
from worker.engine.checkpoint import Checkpoint
from worker.engine.flatbert import FlatBert, flat_network
from worker.engine.processor import this_processor
from worker.engine.records import Records

#: Raised whenever another network may come of the same files.
_VERSION = 1

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
        return self._name in self._records.read(self._key).alike

    def note(self) -> None:
        """Remember that it was."""
        known = self._records.read(self._key)
        self._records.write(known.model_copy(update={"alike": sorted({*known.alike, self._name})}))

    def read(self) -> FlatBert | None:
        """Return the network from the files, or None where transformers must read them."""
        try:
            network = read_bert(self._folder, self._dtype)
            return None if network is None else flat_network(network, self._dtype)
        except Exception as error:  # safetensors and torch raise many kinds; if the files are to blame, it will be told
            _log.info("transformers must read %s (%s: %s)", self._folder, type(error).__name__, error)
            return None
