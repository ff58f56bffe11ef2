"""What a host is, as far as timings care: processor, instruction sets, limits, the runtime."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from . import openvino_runtime
from .conditions import cpu_quota
from .processor import processor
from .session import ONNXRUNTIME, OPENVINO, RUNTIMES

# Flags that decide which integer kernels run, under the names that Linux reports.
ISA_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


_RUNTIME_KEYS = {
    ONNXRUNTIME: ("providers", "onnxruntime", "onnxruntime_build"),
    OPENVINO: openvino_runtime.FACTS,
}


def fingerprint(runtime: str = ONNXRUNTIME) -> dict[str, Any]:
    """Facts about this host with a runtime; JSON-ready. Unreadable facts are None. Raises RuntimeMissingError."""
    return _host_facts() | (openvino_runtime.facts() if runtime == OPENVINO else _onnxruntime_facts())


def fingerprint_keys(runtime: str = ONNXRUNTIME) -> frozenset[str]:
    """What ``fingerprint`` tells, whether the runtime is installed here or not."""
    return frozenset((*_host_facts(), *_RUNTIME_KEYS[runtime]))


def runtime_of(facts: Mapping[str, Any]) -> str:
    """The runtime of a fingerprint, by its key in ``RUNTIMES``."""
    name = facts.get("runtime", ONNXRUNTIME)
    return name if name in RUNTIMES else ONNXRUNTIME


def _onnxruntime_facts() -> dict[str, Any]:
    values = (onnxruntime.get_available_providers(), onnxruntime.__version__, onnxruntime.get_build_info())
    return dict(zip(_RUNTIME_KEYS[ONNXRUNTIME], values, strict=True))


def _host_facts() -> dict[str, Any]:
    name, flags = processor()
    return {
        "cpu": name,
        "machine": platform.machine(),
        "system": platform.system(),
        "isa": [flag for flag in ISA_FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "cpu_quota": cpu_quota(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo_off": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
    }


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
