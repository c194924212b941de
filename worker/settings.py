"""Settings that only workers need, on top of the shared ones; the same names and the same order of precedence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from storage.contract.settings import Settings


class WorkerSettings(Settings):
    """What a worker needs to know.

    Args:
        revision: Commit hash of a hub model. Default: what the hub calls its newest, pinned from then on.
        dtype: What is computed in. `auto`: measured once; half precision (bfloat16; on a GPU that or float16) where it
            is at least 1.2 times as fast and vectors hardly differ (cosine at least 0.9998), else float32.
            `int8` only when asked for: it costs some of the vectors' quality, which the log says.
        backend: What computes the encoder: `torch`, or `openvino` (extra `openvino`, CPU only). Default: torch, and
            OpenVINO for int8.
        devices: `auto` (all GPUs, else the CPU), `gpus` (all, and an end where there is none), `all` (and the CPU),
            `cpu`, or a list such as `cuda:0,cuda:1`; of those GPUs that `CUDA_VISIBLE_DEVICES` names, where it is set;
            of one in parts (MIG) each part by itself.
        token_budget: Most tokens of a batch, padding included. Default: on a CPU measured once, else by device.
        stop_grace: Seconds that running chunks get to finish when a worker is stopped.
        lease_seconds: How long a silent worker keeps its chunks.
        max_memory_growth: MiB a warm worker process may grow before it stops in order and is started anew; 0: any.
        health_port: Port of `/healthz` and `/readyz`; None: none.
        health_host: Address they listen on.
    """

    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    backend: Literal["torch", "openvino"] | None = None
    devices: str = "auto"
    token_budget: int | None = Field(default=None, ge=16)
    stop_grace: float = Field(default=20.0, ge=0, le=86_400)
    lease_seconds: float = Field(default=60.0, ge=1, le=86_400)
    max_memory_growth: int = Field(default=4096, ge=0)
    health_port: int | None = Field(default=None, ge=0, le=65535)
    health_host: str = "127.0.0.1"
