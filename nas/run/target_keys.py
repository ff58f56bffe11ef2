"""The keys of ``target`` in run.yaml."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ortnas.bench.openvino_runtime import check_properties
from ortnas.bench.session import OPENVINO, PROVIDERS, Setup
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
    ``runtime`` loads and runs the models. ``provider`` is ONNX Runtime's name or a short one. ``workloads`` replace
    ``batch`` and ``sequence`` by several. ``concurrency``: so many clients share the session, each of which sends its
    next request when the last one is answered; latency is what each of them waits. ``fastmath_bfloat16``: ONNX Runtime
    computes float products in bfloat16, on Arm processors that have such instructions.
    ``lengths``: sequences without padding (``full``), or padded from lengths as in the data, or from those listed.
    """

    host: str = "local"
    python: str = "python3"
    ssh: str = "ssh"
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    provider: str = PROVIDERS["cpu"]
    provider_options: dict[str, str] = Field({}, max_length=100)
    threads: int = Field(1, ge=1, le=MOST_THREADS)
    concurrency: int = Field(1, ge=1, le=MOST_THREADS)
    spinning: bool = True
    fastmath_bfloat16: bool = False
    affinity: Annotated[tuple[Processor, ...], Field(max_length=MOST_THREADS)] = ()
    batch: Size = 1
    sequence: Size = 128
    workloads: Annotated[tuple[RequestKind, ...], Field(max_length=100)] = ()
    lengths: Literal["data", "full"] | Sizes = "data"

    @property
    def requests(self) -> tuple[RequestKind, ...]:
        return self.workloads or (RequestKind(batch=self.batch, sequence=self.sequence),)

    @property
    def setup(self) -> Setup:
        """How sessions run."""
        if self.runtime == OPENVINO:
            return Setup.for_openvino(self.threads, self.provider_options, self.affinity, self.concurrency)
        options = tuple(sorted(self.provider_options.items()))
        return Setup(
            self.provider,
            self.threads,
            options,
            self.spinning,
            self.affinity,
            self.concurrency,
            fastmath_bfloat16=self.fastmath_bfloat16,
        )

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
    def _suits_the_runtime(self) -> TargetHost:
        if self.runtime != OPENVINO:
            if self.fastmath_bfloat16 and self.provider != PROVIDERS["cpu"]:
                raise ValueError(f"fastmath_bfloat16 is a setting of {PROVIDERS['cpu']}, not of {self.provider}")
            return self
        if self.provider != PROVIDERS["cpu"]:
            raise ValueError(f"provider {self.provider!r} is ONNX Runtime's; with runtime openvino, leave it out")
        if not self.spinning:
            raise ValueError("spinning is ONNX Runtime's setting; with runtime openvino, leave it out")
        if self.fastmath_bfloat16:
            raise ValueError(
                "fastmath_bfloat16 is ONNX Runtime's setting; with runtime openvino, provider_options: "
                "{INFERENCE_PRECISION_HINT: bf16}"
            )
        check_properties(self.provider_options)
        return self

    @model_validator(mode="after")
    def _fits(self) -> TargetHost:
        check_request(self.batch, self.sequence)
        return self
