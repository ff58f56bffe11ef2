"""The keys of ``target`` in run.yaml."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ortnas.bench.timing import PROVIDERS
from ortnas.nas.run.configuration_values import Processor, Section, Size, Sizes
from ortnas.nas.run.limits import MOST_THREADS, check_request


class RequestKind(Section):
    """One kind of request among several; ``weight`` is its share, relative to the others'."""

    batch: Size = 1
    sequence: Size = 128
    weight: float = Field(1.0, ge=1e-6, le=1e6)

    @model_validator(mode="after")
    def _fits(self) -> RequestKind:
        check_request(self.batch, self.sequence)
        return self


class TargetHost(Section):
    """Where and how the package will be run; timings are taken like that.

    ``host``: ``local``, ``simulated``, ``stored:NAME`` (known from imported timings), ``ray:LABEL`` (nodes of the Ray
    cluster that carry the label), or what ``ssh`` connects to; there ``python`` needs numpy and onnxruntime.
    ``provider`` is ONNX Runtime's name or a short one. ``workloads`` replace ``batch`` and ``sequence`` by several.
    ``concurrency``: so many clients share the session, each of which sends its next request when the last one is
    answered; latency is what each of them waits.
    ``lengths``: sequences without padding (``full``), or padded from lengths as in the data, or from those listed.
    """

    host: str = "local"
    python: str = "python3"
    ssh: str = "ssh"
    provider: str = PROVIDERS["cpu"]
    provider_options: dict[str, str] = Field({}, max_length=100)
    threads: int = Field(1, ge=1, le=MOST_THREADS)
    concurrency: int = Field(1, ge=1, le=MOST_THREADS)
    spinning: bool = True
    affinity: Annotated[tuple[Processor, ...], Field(max_length=MOST_THREADS)] = ()
    batch: Size = 1
    sequence: Size = 128
    workloads: Annotated[tuple[RequestKind, ...], Field(max_length=100)] = ()
    lengths: Literal["data", "full"] | Sizes = "data"

    @property
    def requests(self) -> tuple[RequestKind, ...]:
        return self.workloads or (RequestKind(batch=self.batch, sequence=self.sequence),)

    @field_validator("provider")
    @classmethod
    def _full_name(cls, name: str) -> str:
        return PROVIDERS.get(name.lower(), name)

    @field_validator("ssh")
    @classmethod
    def _is_command(cls, command: str) -> str:
        try:
            shlex.split(command)
        except ValueError as error:
            raise ValueError(f"is no command as a shell would take it: {error}") from None
        return command

    @field_validator("affinity")
    @classmethod
    def _once(cls, processors: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(processors)) < len(processors):
            raise ValueError("names a processor twice")
        return processors

    @model_validator(mode="after")
    def _fits(self) -> TargetHost:
        check_request(self.batch, self.sequence)
        return self
