"""What the kernel and the driver tell of this machine."""

from types import SimpleNamespace

import pynvml
import pytest

from common import devices
from common.devices import Memory

CALLS = (
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetMemoryInfo",
    "nvmlSystemGetDriverVersion",
    "nvmlShutdown",
)
UUIDS = ("GPU-0", "GPU-1")


@pytest.fixture
def make_driver(monkeypatch):
    """Replaces the driver by one of two GPUs, in which a call fails, or those of one GPU alone."""

    def by_uuid(name: str) -> int:
        if name not in UUIDS:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return UUIDS.index(name)

    def make_driver(failing: str = "", of_gpu: int | None = None) -> None:
        results = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda number: number,
            "nvmlDeviceGetHandleByUUID": by_uuid,
            "nvmlDeviceGetName": lambda gpu: f"GPU number {gpu}",
            "nvmlDeviceGetCudaComputeCapability": lambda gpu: (8, gpu),
            "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(free=10 + gpu, total=100),
            "nvmlSystemGetDriverVersion": lambda: "580.65",
            "nvmlShutdown": lambda: None,
        }

        def fails(*arguments: object) -> object:
            if of_gpu is None or arguments == (of_gpu,):
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return results[failing](*arguments)

        for call in CALLS:
            monkeypatch.setattr(pynvml, call, fails if call == failing else results[call])

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return make_driver


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlSystemGetDriverVersion"])
def test_the_driver_tells_its_version_unless_it_fails(make_driver, failing):
    make_driver()
    assert devices.driver_version() == "580.65"
    make_driver(failing)
    assert devices.driver_version() is None


def test_gpus_are_those_of_the_driver(make_driver):
    make_driver()
    assert devices.gpu_name() == "GPU number 0"
    assert devices.gpu_capability() == (8, 0)
    assert devices.gpu_memory((0, 1)) == Memory(21, 200)
    assert devices.gpu_memory((1,)) == Memory(11, 100)
    assert devices.gpu_memory((0, 2)) is None


def test_gpus_are_counted_as_cuda_shows_them(make_driver, monkeypatch):
    make_driver()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1, 0")
    assert devices.gpu_name() == "GPU number 1"
    assert devices.gpu_capability() == (8, 1)
    assert devices.gpu_memory((1,)) == Memory(10, 100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.gpu_name() is None
    assert devices.gpu_capability() is None


@pytest.mark.parametrize("visible", [None, "0,1", "GPU-0,GPU-1"])
@pytest.mark.parametrize("failing", CALLS)
def test_a_gpu_whose_driver_fails_counts_as_absent(make_driver, monkeypatch, failing, visible):
    make_driver(failing)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpu_name() in (None, "GPU number 0")
    assert devices.gpu_capability() in (None, (8, 0))
    assert devices.gpu_memory((0, 1)) in (None, Memory(21, 200))
    places, memory = devices.placement((0,))
    assert places[0].endswith("/gpu0" if memory.total == 100 else "/cpu")


def test_a_driver_that_fails_at_the_end_has_still_told_the_gpu(make_driver):
    make_driver("nvmlShutdown")
    assert devices.gpu_name() == "GPU number 0"
    assert devices.gpu_memory((0,)) == Memory(10, 100)


@pytest.mark.parametrize("failing", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"])
def test_the_second_of_two_gpus_fails_alone(make_driver, failing):
    make_driver(failing, of_gpu=1)
    assert devices.gpu_name() == "GPU number 0"
    assert devices.gpu_memory((0,)) == Memory(10, 100)
    assert devices.gpu_memory((0, 1)) is None


@pytest.mark.parametrize(
    ("line", "is_fast"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_fp16", True),
        ("flags\t\t: fpu avx512_vnni amx_bf16 amx_tile", True),
        ("Features\t: fp asimd svebf16 i8mm bf16 dgh", True),
        ("flags\t\t: fpu avx avx2 avx512f avx512_vnni", False),
    ],
)
def test_a_cpu_is_fast_in_bfloat16_where_it_has_instructions_for_it(
    monkeypatch, tmp_path, line, is_fast
):
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert devices.cpu_is_fast_in_bfloat16() is is_fast


def test_a_cpu_of_which_nothing_is_known_counts_as_slow(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "none")
    assert not devices.cpu_is_fast_in_bfloat16()
