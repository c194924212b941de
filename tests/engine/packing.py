"""Texts for tests of packed batches, and what transformers alone makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel

from tests.models import make_model

#: Families whose attention can be replaced, so that their texts lie end to end; the others have positions in it.
PACKABLE = (
    "albert",
    "bert",
    "camembert",
    "distilbert",
    "electra",
    "ernie",
    "eurobert",
    "gte",
    "jina_embeddings_v3",
    "modernbert",
    "nomic_bert",
    "roberta",
    "xlm-roberta",
)


def load(folder: Path, kind: str, **settings: Any) -> Any:
    """Make a small network with random weights and load it."""
    return AutoModel.from_pretrained(make_model(folder / kind, kind, hidden=64, layers=2), **settings).eval()


def states_alone(network: Any, texts: list[Tensor], layer: int) -> Tensor:
    """What transformers gives each text alone, without padding, end to end."""
    found = [network(input_ids=text[None], output_hidden_states=True).hidden_states[layer][0] for text in texts]
    return torch.cat(found)


def padded_of(texts: list[Tensor], padding: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, padded to the longest."""
    mask = torch.arange(max(map(len, texts))) < torch.tensor([len(text) for text in texts])[:, None]
    ids = torch.full(mask.shape, padding)
    ids[mask] = torch.cat(texts)
    return ids, mask
