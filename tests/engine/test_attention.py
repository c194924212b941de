"""Attention within packed texts, against torch's own text by text."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.engine.ends import LENGTHS, packed_of, texts_of
from worker.engine.attention import _attend_at_once, attend, can_attend


def parts(heads: int = 2, components: int = 16) -> list[torch.Tensor]:
    """Query, key and value as a fused layer leaves them: side by side in memory."""
    torch.manual_seed(3)
    return list(torch.randn(sum(LENGTHS), 3, heads, components).unbind(1))


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_each_text_attends_to_itself_within_the_window(window: int | None, scale: float | None) -> None:
    found = attend(*parts(), packed_of(texts_of()), window, scale)
    for text, *qkv in zip(found.split(LENGTHS), *(part.split(LENGTHS) for part in parts()), strict=True):
        places = torch.arange(len(text))
        mask = None if window is None else (places[:, None] - places).abs() < window
        asked = (part.transpose(0, 1) for part in qkv)
        wanted = functional.scaled_dot_product_attention(*asked, attn_mask=mask, scale=scale).transpose(0, 1)
        torch.testing.assert_close(text, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("scale", [None, 16**-0.5, 0.3])
def test_torchs_attention_over_unequal_texts_takes_what_it_is_given(window: int | None, scale: float | None) -> None:
    # Its kernels need a GPU; that the call fits them is checked where shapes alone are computed.
    qkv = [part.to("meta", torch.bfloat16) for part in parts()]
    found = _attend_at_once(*qkv, packed_of(texts_of()), window, scale)
    assert found.shape == qkv[0].shape


def test_a_gpu_attends_in_half_precision_alone() -> None:
    gpu = torch.device("cuda")
    assert can_attend(gpu, torch.bfloat16) and can_attend(gpu, torch.float16) and not can_attend(gpu, torch.float32)
    assert can_attend(torch.device("cpu"), torch.float32)
