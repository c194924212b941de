"""Which library computes: what goes together, what is refused, and what is said when it is not installed."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from storage.contract.errors import InvalidOption
from worker.engine.backends import choose_backend
from worker.engine.checkpoint import Checkpoint
from worker.engine.encoder import resolve_dtype
from worker.engine.engine import Engine


@pytest.mark.parametrize(
    ("asked", "dtype", "device", "backend"),
    [
        (None, "auto", "cpu", "torch"),
        (None, "auto", "cuda", "torch"),
        (None, "int8", "cpu", "openvino"),
        ("torch", "bfloat16", "cuda:1", "torch"),
        ("openvino", "auto", "cpu", "openvino"),
        ("openvino", "int8", "cpu", "openvino"),
    ],
)
def test_torch_computes_unless_openvino_is_asked_for(asked: str | None, dtype: str, device: str, backend: str) -> None:
    assert choose_backend(asked, dtype, device) == backend


@pytest.mark.parametrize(
    ("asked", "dtype", "device", "why"),
    [
        ("torch", "int8", "cpu", "torch backend does not compute in int8"),
        ("openvino", "auto", "cuda", "computes on the CPU"),
        (None, "int8", "cuda:0", "computes on the CPU"),
        ("openvino", "float16", "cpu", "does not compute in float16"),
        ("onnx", "auto", "cpu", "must be one of torch, openvino"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: str | None, dtype: str, device: str, why: str) -> None:
    with pytest.raises(InvalidOption, match=why):
        choose_backend(asked, dtype, device)


def test_torchs_engine_knows_no_int8(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidOption, match="does not compute in int8"):
        Engine(checkpoint, dtype="int8", backend="torch")


@pytest.mark.parametrize("missing", ["openvino", "nncf"])
def test_without_the_extra_it_is_said_what_to_install(missing: str) -> None:
    # Given a Python in which one of the extra's packages cannot be imported
    program = f"import sys; sys.modules[{missing!r}] = None\n"
    program += "from worker.engine.backends import choose_backend; choose_backend('openvino', 'auto', 'cpu')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    # Then the error names the extra
    assert ran.returncode != 0
    assert "pip install 'embedmill[openvino]'" in ran.stderr.splitlines()[-1]


def test_openvino_reports_to_nobody() -> None:
    # Given a fresh Python, when both libraries have been imported through our door
    program = "from worker.engine.openvino import installed; installed.openvino(), installed.nncf()\n"
    program += "import sys; print(*(name for name, found in sys.modules.items() if found and 'openvino_tele' in name))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    # Then the package through which they would report is not among what was imported
    assert ran.returncode == 0, ran.stderr
    assert not ran.stdout.strip()


@pytest.mark.parametrize(
    ("capability", "wanted"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float16(
    capability: tuple[int, int], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a GPU of some generation
    told = SimpleNamespace(name="a mill", major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: told)
    # Then it computes in what it multiplies, unless another type is asked for
    assert resolve_dtype("auto", "cuda:0") is wanted
    assert resolve_dtype("bfloat16", "cuda:0") is torch.bfloat16 and resolve_dtype("auto", "cpu") is torch.float32
