"""Which slots a worker takes."""

from pathlib import Path

import pytest

from storage.contract.errors import InvalidOption
from worker import devices
from worker.devices import CPU, Gpu, choose_slots, find_gpus, parse_gpus, visible

LISTED = "0, GPU-aaaa\n1, GPU-bbbb\n"
GPUS = [Gpu(0, "GPU-aaaa"), Gpu(1, "GPU-bbbb")]


def test_the_drivers_list_is_read() -> None:
    assert parse_gpus(LISTED) == GPUS
    assert parse_gpus("No devices were found\n") == []
    assert parse_gpus("0, GPU-aaaa, [N/A]\n1, GPU-bbbb, Disabled\n") == GPUS
    assert parse_gpus("0, GPU-aaaa, Enabled\n") == [Gpu(0, "GPU-aaaa", parted=True)]
    assert parse_gpus(f"Unable to ask GPU 0000:3B:00.0: it is lost, reboot, please\n{LISTED}") == GPUS


@pytest.mark.parametrize(
    ("driver", "why", "patience"),
    [
        ("echo Failed to initialize NVML: Driver/library version mismatch; exit 18", "version mismatch", 90),
        ("exit 9", "exit code 9", 90),
        ("exec sleep 600", "no answer within", 0.2),
    ],
)
def test_a_driver_that_fails_is_told_of_before_the_cpu_is_taken_in_its_place(
    driver: str,
    why: str,
    patience: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a machine whose driver is there and does not answer as it should
    monkeypatch.setattr(devices, "_PATIENCE", patience)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{driver}\n")
    program.chmod(0o755)
    # When its GPUs are sought, then there are none, and the log says why
    assert find_gpus() == [] and why in caplog.text


@pytest.mark.parametrize(
    ("named", "left"),
    [
        (None, ["cuda:0", "cuda:1"]),
        ("1", ["cuda:1"]),
        ("1, 0", ["cuda:1", "cuda:0"]),
        ("GPU-bb", ["cuda:1"]),
        ("0,7,1", ["cuda:0"]),
        ("0,0", ["cuda:0"]),
        ("", ["cpu"]),
        ("-1", ["cpu"]),
    ],
)
def test_a_worker_takes_the_gpus_that_it_was_left(
    named: str | None, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a machine of two GPUs that others use too, and what this process may use of them
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<END\n{LISTED}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    # Then it takes those, by the names that the driver counts by
    assert [slot.name for slot in choose_slots("auto", find_gpus())] == left


PARTED = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
  MIG 3g.71gb     Device  0: (UUID: MIG-11111111-aaaa)
  MIG 3g.71gb     Device  1: (UUID: MIG-22222222-aaaa)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)
GPU 2: NVIDIA H200 (UUID: GPU-cccc)
"""


def test_of_a_gpu_in_parts_each_part_is_a_slot_and_of_one_without_any_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a machine of three GPUs, of which the first is in two parts, and the last is to be, and has none
    program = tmp_path / "nvidia-smi"
    listed = "0, GPU-aaaa, Enabled\n1, GPU-bbbb, Disabled\n2, GPU-cccc, Enabled\n"
    program.write_text(f'#!/bin/sh\nif [ "$1" = -L ]; then cat <<END\n{PARTED}END\nelse cat <<END\n{listed}END\nfi\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # When a worker takes all it finds
    slots = choose_slots("auto", find_gpus())
    # Then it takes the parts and the GPU that is whole
    assert [(slot.name, slot.environment["CUDA_VISIBLE_DEVICES"]) for slot in slots] == [
        ("cuda:0", "MIG-11111111-aaaa"),
        ("cuda:2", "MIG-22222222-aaaa"),
        ("cuda:1", "GPU-bbbb"),
    ]


def test_one_ill_gpu_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a driver that tells of two GPUs, and fails for the sake of a third one
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<END\n{LISTED}END\necho Unable to ask GPU 0000:3B:00.0 >&2\nexit 15\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_gpus() == GPUS and "is not well" in caplog.text


def test_parts_of_a_gpu_are_slots_of_their_own() -> None:
    slots = choose_slots("auto", visible(GPUS, "MIG-aaaa,MIG-bbbb"))
    assert [(slot.name, slot.environment["CUDA_VISIBLE_DEVICES"]) for slot in slots] == [
        ("cuda:0", "MIG-aaaa"),
        ("cuda:1", "MIG-bbbb"),
    ]


@pytest.mark.parametrize(
    ("named", "names"),
    [
        ("1,MIG-aaaa,MIG-bbbb", ["cuda:1", "cuda:0", "cuda:2"]),
        ("MIG-aaaa,0", ["cuda:1", "cuda:0"]),
        ("MIG-aaaa,MIG-aaaa", ["cuda:0"]),
    ],
)
def test_parts_beside_whole_gpus_have_names_of_their_own(named: str, names: list[str]) -> None:
    assert [slot.name for slot in choose_slots("auto", visible(GPUS, named))] == names


def test_a_machine_without_a_driver_has_no_gpus_and_nothing_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == []
    assert [record for record in caplog.records if record.name == devices.logger.name] == []


def test_auto_takes_all_gpus_and_the_cpu_only_without_any() -> None:
    assert [slot.name for slot in choose_slots("auto", GPUS)] == ["cuda:0", "cuda:1"]
    assert choose_slots("auto", []) == [CPU]


def test_all_takes_the_cpu_too() -> None:
    assert [slot.name for slot in choose_slots("all", GPUS)] == ["cuda:0", "cuda:1", "cpu"]


def test_gpus_takes_all_of_them_and_refuses_to_serve_on_the_cpu() -> None:
    assert [slot.name for slot in choose_slots("gpus", GPUS)] == ["cuda:0", "cuda:1"]
    with pytest.raises(InvalidOption, match="driver tells of none"):
        choose_slots("gpus", [])


def test_a_gpu_is_pinned_by_its_uuid_and_the_cpu_sees_none() -> None:
    second = choose_slots("cuda:1", GPUS)[0]
    assert second.environment["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"
    assert second.torch_device == "cuda"
    assert CPU.environment["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("wanted", ["gpu", "cuda", "cuda:x", "", "cpu;cuda:0"])
def test_what_is_no_device_is_refused(wanted: str) -> None:
    with pytest.raises(InvalidOption, match="no device"):
        choose_slots(wanted, GPUS)


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidOption, match=r"no cuda:7 on this machine.*cpu, cuda:0, cuda:1"):
        choose_slots("cuda:7", GPUS)


def test_a_device_named_twice_is_refused() -> None:
    with pytest.raises(InvalidOption, match="twice"):
        choose_slots("cuda:0,cuda:0", GPUS)
