"""Exit codes by which a worker process tells its supervisor why it ended."""

from __future__ import annotations

#: The device or the encoder failed for good in this process; a new process may work.
DEVICE_FAILED = 70

#: The model cannot be loaded.
MODEL_UNUSABLE = 78

#: The engine made no progress although it had work, or the process grew without end.
STALLED = 75

#: Messages waited, and none came to this idle process.
STARVED = 76

#: Storage could not be reached at the start, or has not answered for minutes since.
STORAGE_AWAY = 69

#: Ends that speak of the device more than of the texts.
OF_DEVICES = (DEVICE_FAILED, MODEL_UNUSABLE, STALLED)

#: Ends that speak of Redis or the database: neither the slot nor what it held is at fault.
OF_SERVERS = (STORAGE_AWAY, STARVED)
