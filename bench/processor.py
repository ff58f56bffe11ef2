"""A host's processor: its name and the flags of its instruction sets, as the operating system tells them."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .arm_cores import core_name

# What Linux calls them, by the questions that macOS answers.
_DARWIN_ARM_FLAGS = {
    "asimddp": "hw.optional.arm.FEAT_DotProd",
    "i8mm": "hw.optional.arm.FEAT_I8MM",
    "bf16": "hw.optional.arm.FEAT_BF16",
}


class Processor(NamedTuple):
    """``flags`` are all that the system reports, under the names that Linux has for them."""

    name: str
    flags: frozenset[str]


def processor(root: Path = Path("/")) -> Processor:
    """Of this host; Linux' files are looked for below ``root``."""
    try:
        return described(root.joinpath("proc/cpuinfo").read_text(errors="replace"))
    except OSError:
        pass
    if platform.system() == "Darwin":
        name = _sysctl("machdep.cpu.brand_string") or platform.machine()
        flags = (_sysctl("machdep.cpu.features") + " " + _sysctl("machdep.cpu.leaf7_features")).lower().split()
        arm_flags = [flag for flag, key in _DARWIN_ARM_FLAGS.items() if _sysctl(key) == "1"]
        return Processor(name, frozenset((*flags, *arm_flags)))
    return Processor(_generic_name(), frozenset())


def described(cpuinfo: str) -> Processor:
    """What a text of ``/proc/cpuinfo`` tells. Arm cores say who made them and which part they are; where there are
    several kinds, each is named once."""
    parted = (line.partition(":") for line in cpuinfo.splitlines())
    lines = [(key.strip(), value.strip()) for key, separator, value in parted if separator]
    entries = dict(lines)
    name = " + ".join(dict.fromkeys(_core_names(lines)))
    name = name or entries.get("model name") or entries.get("Hardware") or _generic_name()
    return Processor(name, frozenset((entries.get("flags") or entries.get("Features") or "").split()))


def _core_names(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Of every Arm core that is listed: its implementer stands ahead of its part."""
    names, implementer = [], None
    for key, value in lines:
        if key == "CPU implementer":
            implementer = _number(value)
        elif key == "CPU part" and implementer is not None and (part := _number(value)) is not None:
            names.append(core_name(implementer, part))
    return names


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _generic_name() -> str:
    return platform.processor() or platform.machine()


def _sysctl(key: str) -> str:
    try:
        return subprocess.run(
            ["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
