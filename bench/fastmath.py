"""Float products in bfloat16: what ONNX Runtime's CPU provider does with float32 models on Arm where it is asked to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of a session's configuration, from ONNX Runtime 1.17 on, which passes over it in silence where it is of no use.
ENTRY = "mlas.enable_gemm_fastmath_arm64_bfloat16"
_MACHINE, _SYSTEM, _FLAG = "aarch64", "Linux", "bf16"


def obstacle(fingerprint: Mapping[str, Any]) -> str:
    """Why a host computes no products in bfloat16, by its fingerprint; empty where it does."""
    cpu, machine, system = (str(fingerprint.get(key)) for key in ("cpu", "machine", "system"))
    if (machine, system) != (_MACHINE, _SYSTEM):
        return f"ONNX Runtime has bfloat16 fast math on 64-bit Arm under Linux alone; this is {machine} under {system}"
    if _FLAG not in fingerprint.get("isa", ()):
        return f"{cpu} has no bfloat16 instructions ({_FLAG}), and products would stay in float32"
    return ""
