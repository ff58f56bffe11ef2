"""Naming one subnet on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ortnas.bench.store import Store
from ortnas.nas.architecture.layout import DESCRIPTION_FILE
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.files import parse_json
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.search.budget import Budget
from ortnas.search.loop import LOG_FILE, logged_subnets
from ortnas.search.refinement import read_refinement
from ortnas.search.result import read_result


def find_subnet(configuration: Configuration, run_folder: RunFolder, run_models: Models, name: str) -> Subnet:
    """The subnet that ``name`` stands for: a budget with a winner (``2x``), a key or the start of one, or a JSON file
    (a subnet, or a package's ``ortnas.json``).

    Raises ConfigurationError or SpaceError with what there is, and SearchResultError.
    """
    path = Path(name).expanduser()
    if path.suffix == ".json" or path.is_file():
        return read_subnet(path)
    winner = _winner(run_folder, name)
    if winner is not None:
        return winner
    fitting = {subnet.key: subnet for subnet in _subnets(run_folder, run_models) if subnet.key.startswith(name)}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise ConfigurationError(f"--subnet {name}: begins the keys {', '.join(sorted(fitting))}; give more digits")
    names = [budget.name for budget in configuration.search.budgets]
    budgets = ", ".join(budget for budget in names if run_folder.search(budget).is_dir())
    raise ConfigurationError(
        f"--subnet {name}: no searched or timed subnet of {run_folder.path} has such a key"
        + (f", and it is none of the searched budgets {budgets}" if budgets else "; give a JSON file")
    )


def _winner(run_folder: RunFolder, name: str) -> Subnet | None:
    """Of the search for the budget of that name; None where it is none, or not searched for."""
    try:
        budget = Budget.parse(name)
    except ValueError:
        return None
    result = read_result(run_folder.search(budget.name))
    if result is None:
        return None
    if result.winner is None:
        raise ConfigurationError(f"--subnet {name}: the search for that budget ended without a winner")
    refinement = read_refinement(run_folder.search(budget.name))
    if refinement is not None and refinement.search_inputs == result.inputs:
        return refinement.subnet
    return result.winner.subnet


def read_subnet(path: Path) -> Subnet:
    """The subnet of a JSON file, or of a package's record. Raises ConfigurationError and SpaceError."""
    try:
        document: Any = parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"--subnet {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--subnet {path}: {error}") from error
    if not isinstance(document, dict):
        raise SpaceError(f"{path}: not a subnet, but {type(document).__name__}")
    return Subnet.from_json(document.get("subnet", document))


def _subnets(run_folder: RunFolder, run_models: Models) -> Iterator[Subnet]:
    """Every subnet that this run has scored, trained further or timed."""
    space = run_models.supernet.space
    yield from (space.largest, space.smallest)
    for path in sorted(run_folder.path.glob(f"search/*/{LOG_FILE}")):
        yield from logged_subnets(path)
    for path in sorted(run_folder.path.glob(f"refined/**/{DESCRIPTION_FILE}")):
        yield Subnet.from_json(json.loads(path.read_text())["provenance"]["subnet"])
    if run_folder.store_file.is_file():
        with Store(run_folder.store_file) as store:
            for document in store.subnets():
                yield Subnet.from_json(document)
