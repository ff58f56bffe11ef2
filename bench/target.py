"""Targets: where and how models are timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .digests import short_digest
from .session import Setup
from .timing import Workload

_LONGEST_VALUE = 80


@dataclass(frozen=True)
class Target:
    """Where and how models are timed. ``hash`` names it; timings of different targets never mix.

    Lengths of sequences are no part of it: they only shape the mask, and dense kernels take as long for padding.
    """

    fingerprint: dict[str, Any]
    setup: Setup
    workloads: tuple[Workload, ...]

    @property
    def hash(self) -> str:
        return short_digest(self._identity())

    @property
    def main_workload(self) -> Workload:
        """The heaviest of the workloads."""
        return max(self.workloads, key=lambda workload: workload.weight)

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "setup": self.setup.to_json(),
            "workloads": [workload.to_json() for workload in self.workloads],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Target:
        """Raises KeyError, TypeError, ValueError or AttributeError where the document describes no target."""
        workloads = tuple(Workload.from_json(workload) for workload in document["workloads"])
        if not isinstance(document["fingerprint"], dict):
            raise ValueError("the fingerprint of a target is an object")
        return cls(document["fingerprint"], Setup.from_json(document["setup"]), workloads)

    def _identity(self) -> dict[str, Any]:
        document = self.to_json()
        for workload in document["workloads"]:
            del workload["lengths"]
        return document

    def differences(self, other: Target) -> list[str]:
        """Where another target differs, as ``key: theirs, here ours``."""
        ours, theirs = (_flat(target._identity()) for target in (self, other))
        return [
            f"{key[:_LONGEST_VALUE]}: {theirs.get(key)!r:.{_LONGEST_VALUE}}, here {ours.get(key)!r:.{_LONGEST_VALUE}}"
            for key in sorted(set(ours) | set(theirs))
            if ours.get(key) != theirs.get(key)
        ]


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """One key per fact; of several workloads, each with its number."""
    workloads = identity["workloads"]
    return {**identity["fingerprint"], **identity["setup"]} | {
        key if len(workloads) == 1 else f"workload {number} {key}": value
        for number, workload in enumerate(workloads, start=1)
        for key, value in workload.items()
    }
