"""What the kernel tells of this machine."""

import pytest

from common import devices


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
