from __future__ import annotations

import importlib
import inspect
import pkgutil

import ortnas
from ortnas.bench.errors import BenchError
from ortnas.nas.failures import OrtnasError

# They never leave their package, or belong to a file that runs without ours.
_PRIVATE = {
    "ortnas.nas.data.rows._UnusableRowError",  # a row that is left out and counted
    "ortnas.export.package.entries.DamagedError",  # becomes a PackageError that names the file
    "ortnas.export.package.record._TargetError",  # likewise
    "ortnas.export.package.predict.RequestError",  # of the packages' predict.py
}


def failures() -> dict[str, type[BaseException]]:
    """Every exception class by its full name, in the module that defines it."""
    return {
        f"{name}.{kind.__qualname__}": kind
        for _, name, _ in pkgutil.walk_packages(ortnas.__path__, "ortnas.")
        for _, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass)
        if issubclass(kind, BaseException) and kind.__module__ == name
    }


def test_every_failure_derives_from_one_of_two_bases() -> None:
    kinds = failures()
    assert {"ortnas.bench.host.HostError", "ortnas.nas.run.configuration.ConfigurationError"} <= kinds.keys()
    assert kinds.keys() >= _PRIVATE
    strays = [
        name
        for name, kind in kinds.items()
        if name not in _PRIVATE
        and not issubclass(kind, BenchError if name.startswith("ortnas.bench.") else OrtnasError)
    ]
    assert strays == []
