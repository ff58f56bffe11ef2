"""Failures that a user can mend: their base, and those of the stages that need torch, apart so that naming them does
not import it."""

from __future__ import annotations


class OrtnasError(Exception):
    """Base of all failures that a user can mend; the message says what was wrong, where, and what to do.

    ``bench`` stands alone and has a base of its own.
    """


class CheckpointError(OrtnasError):
    """A checkpoint that cannot become a supernet; the message says why."""


class TrainingError(OrtnasError):
    """Training that cannot go on; the message names the step and what to change."""


class NotFiniteError(TrainingError):
    """A loss or gradient that is no number; what was saved before is as it was."""


class DataError(OrtnasError, ValueError):  # pydantic makes a sentence about the key of a ValueError
    """Data that cannot be used; the message names the file, the line where there is one, and what is wrong."""
