"""What a host is: where models are timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import BenchError
from .request import Request
from .timing import Samples


class HostError(BenchError):
    """The host cannot be reached, or cannot time even the anchor."""


@dataclass(frozen=True)
class Failure:
    """Why a model could not be timed."""

    reason: str


class Host(Protocol):
    """Where models are timed. ``name`` is for people and in the store; it takes no part in a target's identity."""

    name: str

    def hello(self) -> dict[str, Any]:
        """``fingerprint``, ``versions`` and ``conditions`` of the host now. Raises HostError."""

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,
    ) -> dict[str, Samples | Failure]:
        """One visit of each named model, in turn with the request's anchor. Raises HostError.

        ``visit`` numbers the visits that the same models get in the same company. Hosts that a clock measures have no
        need of it; a simulated one makes each visit's noise of it.
        """

    def forget(self) -> None:
        """Frees what the host holds of models that were measured."""

    def close(self) -> None: ...


class StoredHost:
    """A host that is known from its timings alone: nothing new can be timed there from here."""

    def __init__(self, name: str, fingerprint: Mapping[str, Any]) -> None:
        self.name, self._fingerprint = name, fingerprint

    def hello(self) -> dict[str, Any]:
        return {"fingerprint": dict(self._fingerprint), "versions": {}, "conditions": {}}

    def measure(
        self,
        models: Mapping[str, bytes],  # noqa: ARG002 the hosts' common signature
        request: Request,  # noqa: ARG002
        visit: int = 0,  # noqa: ARG002
    ) -> dict[str, Samples | Failure]:
        raise HostError(
            f"{self.name} is known from imported timings only; take it a bundle: ortnas bench --bundle FILE"
        )

    def forget(self) -> None: ...

    def close(self) -> None: ...
