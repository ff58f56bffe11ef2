"""Failures of the stages that need torch, apart so that naming them does not import it."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot become a supernet; the message says why."""


class TrainingError(RuntimeError):
    """Training that cannot go on; the message names the step and what to change."""


class DataError(ValueError):
    """Data that cannot be used; the message names the file, the line where there is one, and what is wrong."""
