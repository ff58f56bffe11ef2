"""Failures of the stages that need torch, apart so that naming them does not import it, and how sentences quote."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot become a supernet; the message says why."""


class TrainingError(RuntimeError):
    """Training that cannot go on; the message names the step and what to change."""


def shortened(value: object, longest: int = 120) -> str:
    """A value as it stands in a sentence: on one line, and cut where it is long."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= longest else f"{text[:longest]}…"
