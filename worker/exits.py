"""Exit codes by which a worker process tells its supervisor why it ended."""

from __future__ import annotations

#: The device or the encoder failed for good in this process; a new process may work.
DEVICE_FAILED = 70

#: The model cannot be loaded.
MODEL_UNUSABLE = 78

#: The engine made no progress although it had work, or no message came although there was some.
STALLED = 75

#: Storage could not be reached at the start.
STORAGE_AWAY = 69

#: Ends that speak of the device more than of the texts.
OF_DEVICES = (DEVICE_FAILED, MODEL_UNUSABLE, STALLED, STORAGE_AWAY)
