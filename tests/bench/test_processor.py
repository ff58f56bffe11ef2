"""The processor's name and flags, from texts in the form that Linux gives /proc/cpuinfo."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortnas.bench.arm_cores import CORES, core_name
from ortnas.bench.processor import described, processor


def cpuinfo(*cores: tuple[int, int], flags: str = "fp asimd", tail: str = "") -> str:
    """As a 64-bit Arm kernel writes it: a block for every core, implementer and part in hexadecimal digits."""
    blocks = [
        f"processor\t: {number}\nBogoMIPS\t: 50.00\nFeatures\t: {flags}\nCPU implementer\t: 0x{implementer:02x}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0x{part:03x}\nCPU revision\t: 1\n"
        for number, (implementer, part) in enumerate(cores)
    ]
    return "\n".join([*blocks, tail])


X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model name\t: AMD EPYC 9R14
flags\t\t: fpu avx2 avx512f avx512_vnni
bugs\t\t: sysret_ss_attrs

processor\t: 1
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9R14
flags\t\t: fpu avx2 avx512f avx512_vnni
"""
OLD_KERNEL = """processor\t: 0
model name\t: ARMv7 Processor rev 4 (v7l)
Features\t: half thumb fastmult vfp neon
CPU implementer\t: 0x41
CPU architecture: 7
CPU part\t: 0xd03

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 3 Model B Plus Rev 1.3
"""


@pytest.mark.parametrize(
    ("cores", "name"),
    [
        ([(0x41, 0xD0C)] * 4, "Arm Neoverse N1"),
        ([(0x41, 0xD40)], "Arm Neoverse V1"),
        ([(0x41, 0xD84)], "Arm Neoverse V3"),
        ([(0x41, 0xD08)] * 4, "Arm Cortex-A72"),
        ([(0xC0, 0xAC3)] * 2, "Ampere-1"),
        ([(0x46, 0x001)], "Fujitsu A64FX"),
        ([(0x51, 0x001)] * 12, "Qualcomm Oryon"),
        ([(0x61, 0x022)] * 4 + [(0x61, 0x023)] * 4, "Apple M1 Icestorm + Apple M1 Firestorm"),
        ([(0x41, 0xD05)] * 4 + [(0x41, 0xD0B)] * 4, "Arm Cortex-A55 + Arm Cortex-A76"),
        ([(0x41, 0xFFF)] * 2, "implementer 0x41 part 0xfff"),
        ([(0x41, 0xD0B), (0x99, 0x001)], "Arm Cortex-A76 + implementer 0x99 part 0x001"),
    ],
)
def test_arm_cores_have_the_names_of_their_designs(cores: list[tuple[int, int]], name: str) -> None:
    processor = described(cpuinfo(*cores, flags="fp asimd asimddp i8mm bf16"))
    assert processor.name == name
    assert processor.flags == {"fp", "asimd", "asimddp", "i8mm", "bf16"}


def test_other_texts_are_read_as_ever() -> None:
    assert described(X86) == ("AMD EPYC 9R14", {"fpu", "avx2", "avx512f", "avx512_vnni"})
    # A 32-bit system on a 64-bit core: "ARMv7 Processor" says less than the part.
    assert described(OLD_KERNEL).name == "Arm Cortex-A53"
    without_part = "\n".join(line for line in OLD_KERNEL.splitlines() if not line.startswith("CPU part"))
    assert described(without_part).name == "ARMv7 Processor rev 4 (v7l)"
    board = "\n".join(line for line in without_part.splitlines() if not line.startswith("model name"))
    assert described(board).name == "BCM2835"
    assert described("") == (platform.processor() or platform.machine(), frozenset())


def test_numbers_that_are_none_are_passed_over() -> None:
    text = cpuinfo((0x41, 0xD0C)).replace("0xd0c", "unknown")
    assert described(text).name == (platform.processor() or platform.machine())
    assert described(cpuinfo((0x41, 0xD0C)).replace("0x41", "ARM")).name == described(text).name


@given(st.integers(0, 255), st.integers(0, 0xFFF))
def test_every_pair_of_numbers_has_a_name_of_its_own_kind(implementer: int, part: int) -> None:
    name = core_name(implementer, part)
    is_listed = part in CORES.get(implementer, ("", {}))[1]
    assert name.startswith(CORES[implementer][0] if is_listed else f"implementer 0x{implementer:02x} part 0x{part:03x}")
    assert described(cpuinfo((implementer, part))).name == name


def test_linux_files_are_found_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_bytes(cpuinfo((0x41, 0xD4F)).encode() + b"\xff\n")
    assert processor(tmp_path).name == "Arm Neoverse V2"


def test_macos_answers_by_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "machdep.cpu.brand_string": "Apple M2",
        "hw.optional.arm.FEAT_I8MM": "1",
        "hw.optional.arm.FEAT_BF16": "1",
    }
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("ortnas.bench.processor._sysctl", lambda key: answers.get(key, ""))
    assert processor(tmp_path) == ("Apple M2", {"i8mm", "bf16"})
