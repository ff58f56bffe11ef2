"""The failures that a user can mend: each becomes one sentence instead of a traceback."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot become a supernet; the message says why."""


class TrainingError(RuntimeError):
    """Training that cannot go on; the message names the step and what to change."""


def expected_failures() -> tuple[type[Exception], ...]:
    """Exception types raised for bad input, a full disk, a host that fails."""
    from bench.hosts import HostError
    from bench.store import StoreError
    from export.build import ExportError
    from export.package import PackageError
    from export.quantize import CalibrationError
    from export.weights import SupernetError
    from nas.configuration import ConfigurationError
    from nas.data import DataError
    from nas.space import SpaceError
    from nas.stages.search import SearchError
    from nas.text import TokenizerError
    from predictors.latency import PredictorError
    from search.evolution import InfeasibleBudgetError

    return (
        CalibrationError,
        CheckpointError,
        ConfigurationError,
        DataError,
        ExportError,
        HostError,
        InfeasibleBudgetError,
        OSError,
        PackageError,
        PredictorError,
        SearchError,
        SpaceError,
        StoreError,
        SupernetError,
        TokenizerError,
        TrainingError,
    )
