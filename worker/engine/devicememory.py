"""How much of its device's memory is in use, by all processes."""

from __future__ import annotations

import torch


def device_memory(device: str) -> tuple[int, int] | None:
    """Return the bytes in use and those that there are; None of a device that has no memory of its own.

    Args:
        device: What torch calls it.
    """
    if not device.startswith("cuda"):
        return None
    free, total = torch.cuda.mem_get_info(device)
    return total - free, total
