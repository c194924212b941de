"""Which slots a worker takes."""

import pytest

from storage.contract.errors import InvalidOption
from worker.devices import CPU, Gpu, choose_slots, parse_gpus

LISTED = "0, GPU-aaaa\n1, GPU-bbbb\n"
GPUS = [Gpu(0, "GPU-aaaa"), Gpu(1, "GPU-bbbb")]


def test_the_drivers_list_is_read() -> None:
    assert parse_gpus(LISTED) == GPUS
    assert parse_gpus("No devices were found\n") == []


def test_auto_takes_all_gpus_and_the_cpu_only_without_any() -> None:
    assert [slot.name for slot in choose_slots("auto", GPUS)] == ["cuda:0", "cuda:1"]
    assert choose_slots("auto", []) == [CPU]


def test_all_takes_the_cpu_too() -> None:
    assert [slot.name for slot in choose_slots("all", GPUS)] == ["cuda:0", "cuda:1", "cpu"]


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
