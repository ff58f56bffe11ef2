"""Whether what long texts need at once fits into this machine's memory."""

from __future__ import annotations

import os
from pathlib import Path

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.run.configuration import ConfigurationError

# Scores and what the softmax makes of them are there at the same time, in float32.
_BYTES_A_PAIR = 8
# What is kept of a token for the backward pass, in float32: of every layer, a neuron of its FFN and a channel.
_BYTES_A_NEURON, _BYTES_A_CHANNEL = 8, 40
# Parts of a batch that take more than this on a CPU are computed one after the other.
_MOST_ACTIVATION_BYTES = 1.5e9
# Of a group of processes, by version of the kernel's interface.
_LIMIT_FILES = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_attention(dimensions: Dimensions, batch: int, sequence: int, setting: str, root: Path = Path("/")) -> None:
    """Raises ConfigurationError where the attention of one layer alone takes more than all memory; ``setting`` is what
    asks for texts of that many tokens."""
    needed, present = _BYTES_A_PAIR * batch * dimensions.num_heads * sequence**2, memory_bytes(root)
    if present is not None and needed > present:
        raise ConfigurationError(
            f"{setting}: attention of {batch} x {sequence} tokens with {dimensions.num_heads} heads takes "
            f"{needed / 1e9:.1f} GB a layer, and this machine has {present / 1e9:.1f} GB; half as many tokens take a "
            f"quarter of that"
        )


def tokens_at_a_time(subnet: Subnet) -> int:
    """As many tokens as a training step computes at once on a CPU, where what the backward pass needs of them takes
    memory that most machines have."""
    bytes_a_token = sum(
        _BYTES_A_NEURON * layer.ffn_size + _BYTES_A_CHANNEL * subnet.hidden_size for layer in subnet.layers
    )
    return int(_MOST_ACTIVATION_BYTES / bytes_a_token)


def memory_bytes(root: Path = Path("/")) -> int | None:
    """What this process may use of memory; None where nothing tells."""
    limits = []
    for file in _LIMIT_FILES:
        try:
            limits.append(int((root / file).read_text()))
        except (OSError, ValueError):
            continue
    # Windows has none.
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)
