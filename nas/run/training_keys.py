"""The keys of ``training`` and ``refinement`` in run.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ortnas.nas.run.configuration_values import LearningRate, Section
from ortnas.nas.run.limits import MOST_ROWS, MOST_STEPS, MOST_TOKENS


class Training(Section):
    """``minutes``: what all stages together may take; steps that are not configured are then chosen to fit.

    ``teacher``: the checkpoint's full network, or the ``largest`` subnet of each step (in-place distillation).
    ``new_head`` trains a head from the start where the checkpoint has one for other labels. ``signals_gb`` bounds what
    is kept on disk of the teacher's signals, so that they are computed once a text.
    """

    minutes: float | None = Field(None, gt=0, le=10**6)
    steps: int | None = Field(None, ge=0, le=MOST_STEPS)
    batch_size: int = Field(32, ge=2, le=MOST_TOKENS)
    accumulation: int = Field(1, ge=1)
    learning_rate: LearningRate = 3e-4
    sampling: Literal["sandwich", "uniform", "progressive"] = "sandwich"
    random_subnets: int = Field(2, ge=0, le=1000)
    balance: Literal["multiply_adds", "latency", "genome"] = "multiply_adds"
    teacher: Literal["checkpoint", "largest"] = "checkpoint"
    losses: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = None
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    signals_gb: float = Field(4.0, ge=0, le=10**6)
    compile: bool = False
    importance_texts: int = Field(128, ge=1, le=MOST_ROWS)
    teacher_steps: int | None = Field(None, ge=0, le=MOST_STEPS)
    teacher_learning_rate: LearningRate = 5e-5
    new_head: bool = False
    checkpoint_every: int = Field(100, ge=1, le=MOST_STEPS)
    probe_every: int = Field(200, ge=0, le=MOST_STEPS)
    probe_texts: int = Field(256, ge=2, le=MOST_ROWS)

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.teacher == "largest" and self.sampling == "uniform":
            raise ValueError("teacher 'largest' needs the largest subnet in every step; sampling 'uniform' lacks it")
        if self.accumulation > self.batch_size:
            raise ValueError(f"accumulation {self.accumulation} exceeds batch_size {self.batch_size}")
        return self


class Refinement(Section):
    """Training of the finalists alone, by successive halving: the last of them takes so many ``steps``.

    With 0 winners stay as they are in the supernet. ``quantization_aware`` puts the quantizer's rounding into the loop.
    """

    steps: int | None = Field(None, ge=0, le=MOST_STEPS)
    finalists: int = Field(2, ge=1, le=1000)
    batch_size: int = Field(64, ge=2, le=MOST_TOKENS)
    learning_rate: LearningRate | None = None
    quantization_aware: bool = False
