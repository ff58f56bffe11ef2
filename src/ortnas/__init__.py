"""Hardware-aware neural architecture search for INT8 BERT encoders on ONNX Runtime.

The names of ``__all__`` are loaded when they are asked for; the manual's page on Python shows them at work.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ortnas.bench.hosts import open_host
    from ortnas.bench.request import Request
    from ortnas.bench.session import Setup
    from ortnas.bench.target import Target
    from ortnas.bench.timing import Workload
    from ortnas.bench.visits import time_models
    from ortnas.export.build import Exporter
    from ortnas.export.inspect.audit import audit
    from ortnas.export.int8.recipes import choose_recipe
    from ortnas.export.package.from_texts import package_content
    from ortnas.export.package.package import write_package
    from ortnas.export.package.verify import verify
    from ortnas.export.plain_texts import encode_texts
    from ortnas.export.weights import read_supernet
    from ortnas.nas.architecture.space import SearchSpace
    from ortnas.nas.architecture.subnet import Subnet
    from ortnas.nas.stages.pipeline import run
    from ortnas.nas.text import Example
    from ortnas.nas.training.supernet import open_checkpoint
    from ortnas.predictors.fitting import fit_predictor
    from ortnas.search.subnets import search_subnets

# The parts of this package own the names ``bench``, ``export``, ``predictors`` and ``search``.
_MODULES = {
    "Example": "nas.text",
    "Exporter": "export.build",
    "Request": "bench.request",
    "SearchSpace": "nas.architecture.space",
    "Setup": "bench.session",
    "Subnet": "nas.architecture.subnet",
    "Target": "bench.target",
    "Workload": "bench.timing",
    "audit": "export.inspect.audit",
    "choose_recipe": "export.int8.recipes",
    "encode_texts": "export.plain_texts",
    "fit_predictor": "predictors.fitting",
    "open_checkpoint": "nas.training.supernet",
    "open_host": "bench.hosts",
    "package_content": "export.package.from_texts",
    "read_supernet": "export.weights",
    "run": "nas.stages.pipeline",
    "search_subnets": "search.subnets",
    "time_models": "bench.visits",
    "verify": "export.package.verify",
    "write_package": "export.package.package",
}
__all__ = [
    "Example",
    "Exporter",
    "Request",
    "SearchSpace",
    "Setup",
    "Subnet",
    "Target",
    "Workload",
    "audit",
    "choose_recipe",
    "encode_texts",
    "fit_predictor",
    "open_checkpoint",
    "open_host",
    "package_content",
    "read_supernet",
    "run",
    "search_subnets",
    "time_models",
    "verify",
    "write_package",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
