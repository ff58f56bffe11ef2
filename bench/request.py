"""What a host is asked for: beside which anchor, in what sessions, on what workloads and how long models are timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .digests import digest_of
from .session import Setup
from .timing import TimingProtocol, Workload


@dataclass(frozen=True)
class Request:
    """``anchor`` is the ONNX model that takes turns with those that are timed, so that drift of the host is seen.

    Of ``source``, where there is one, models may be slices: it travels once, they as their differences from it.
    """

    anchor: bytes = field(repr=False)
    setup: Setup = field(default_factory=Setup)
    workloads: tuple[Workload, ...] = (Workload(),)
    protocol: TimingProtocol = field(default_factory=TimingProtocol)
    source: bytes | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The anchor by its digest: its bytes and the source travel and lie beside the JSON."""
        return {
            "anchor": digest_of(self.anchor),
            "setup": self.setup.to_json(),
            "workloads": [workload.to_json() for workload in self.workloads],
            "protocol": self.protocol.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], anchor: bytes) -> Request:
        """``anchor`` are the bytes that the document names. Raises as ``read_settings``."""
        return cls(anchor, *read_settings(document))


def read_settings(document: Mapping[str, Any]) -> tuple[Setup, tuple[Workload, ...], TimingProtocol]:
    """What a request's JSON says beside its anchor.

    Raises AttributeError, KeyError, TypeError or ValueError where it is none.
    """
    workloads = tuple(Workload.from_json(workload) for workload in document["workloads"])
    return Setup.from_json(document["setup"]), workloads, TimingProtocol.from_json(document["protocol"])
