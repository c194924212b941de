"""What the bare libraries share: texts sorted by their true length, batches of at most 2,048 tokens, one at a time.

A user who writes this loop by hand gets the most of OpenVINO or ONNX Runtime without any program around it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

TOKEN_BUDGET = 2048


def threads() -> int:
    """Return how many threads a library may use: one a core that this process has."""
    return len(os.sched_getaffinity(0))


class Batches:
    """Divides texts into padded batches.

    Args:
        folder: The model's folder, of sentence-transformers' layout.
    """

    def __init__(self, folder: Path) -> None:
        longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(longest)

    def of(self, texts: list[str]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield for each batch which texts it holds, and their ids and mask, shape (texts, tokens)."""
        found = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        order = np.argsort([-len(ids) for ids in found], kind="stable")
        start = 0
        while start < len(order):
            width = len(found[order[start]])
            rows = order[start : start + max(1, TOKEN_BUDGET // width)]
            lengths = np.array([len(found[row]) for row in rows])
            mask = np.arange(width) < lengths[:, None]
            ids = np.zeros(mask.shape, np.int64)
            ids[mask] = np.concatenate([found[row] for row in rows])
            yield rows, ids, mask.astype(np.int64)
            start += len(rows)


class Pooled(nn.Module):
    """The network with mean pooling and normalising after it, so that a library may fuse them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import AutoModel

        self._network: Any = AutoModel.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return vectors of length 1, shape (texts, width)."""
        states = self._network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).float()
        return functional.normalize((states * weights).sum(1) / weights.sum(1))


def example() -> dict[str, Tensor]:
    """Return a batch to trace a network with: two texts of different lengths."""
    ids = torch.randint(1000, 2000, (2, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask}
