"""What a run folder holds, read for people: each part if it is there, and a sentence for each that is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ortnas.bench.estimates import AnchorLatency, Timing
from ortnas.bench.store import Measurement, Store, StoreError, Summary, timings
from ortnas.bench.target import Target
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import DESCRIPTION_FILE, read_dimensions
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import RESOLVED_FILE, read_lines
from ortnas.nas.yaml_documents import read_yaml
from ortnas.predictors.features import PRECISIONS
from ortnas.predictors.fitting import Predictor, load_predictor
from ortnas.search.budget import budget_of_file
from ortnas.search.candidate import Candidate
from ortnas.search.comparison import Comparison
from ortnas.search.finalists import Finalist
from ortnas.search.loop import LOG_FILE, read_log
from ortnas.search.refinement import Refinement, read_refinement
from ortnas.search.result import SearchResult, read_result

Document = TypeVar("Document")
# What reading a file raises that is damaged, or that another release wrote.
_DAMAGE = (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError)

# Libraries put whole traces into their messages.
_LONGEST_REASON = 300


class ReportError(OrtnasError):
    """A folder that no report can be made of."""


@dataclass(frozen=True)
class Dataset:
    """The timings of one target, precision and model. ``subnets`` and ``timings`` are by subnet key."""

    summary: Summary
    measurements: list[Measurement]
    subnets: dict[str, Subnet]
    timings: dict[str, Timing]
    reference: AnchorLatency | None


@dataclass(frozen=True)
class Search:
    """One search, finished or not. ``result`` is None while it is not.

    ``candidates`` are those of the result, or scored so far. ``failures`` are the key and the reason of each candidate
    that could not be scored, ``full_score`` is the full network's, where that was scored. ``refinement`` is what
    training the finalists alone ended with, where that was done since.
    """

    name: str
    precision: str
    budget: str
    candidates: tuple[Candidate, ...]
    failures: tuple[tuple[str, str], ...]
    result: SearchResult | None
    full_score: float | None
    refinement: Refinement | None = None

    @property
    def winner(self) -> Finalist | None:
        """The finalist that is shipped: after training alone it may be another one than the search's."""
        if self.result is None or self.result.winner is None:
            return None
        shipped = self.result.winner.subnet if self.refinement is None else self.refinement.subnet
        return next((item for item in self.finalists if item.subnet == shipped), None)

    @property
    def finalists(self) -> tuple[Finalist, ...]:
        return () if self.result is None else self.result.finalists

    @property
    def budget_ms(self) -> float | None:
        return None if self.result is None else self.result.budget_ms

    @property
    def reference_ms(self) -> float | None:
        return None if self.result is None else self.result.reference_ms

    @property
    def metric(self) -> str:
        """``score`` where it is not known yet."""
        return "score" if self.result is None else self.result.metric


@dataclass
class RunRecord:
    """``problems`` names what is missing or cannot be read, and the command that makes it."""

    folder: Path
    configuration: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    dimensions: Dimensions | None = None
    space: SearchSpace | None = None
    labels: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    datasets: list[Dataset] = field(default_factory=list)
    predictors: list[Predictor] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def precision(self) -> str:
        return str(self.configuration.get("precision") or "int8")

    def dataset_of(self, target: Target, precision: str) -> Dataset | None:
        """The newest timings of a target."""
        alike = [
            item
            for item in self.datasets
            if item.summary.precision == precision and not item.summary.target.differences(target)
        ]
        return max(alike, key=lambda item: item.summary.last_at, default=None)

    @property
    def dataset(self) -> Dataset | None:
        """The newest timings at the run's precision, or at any."""
        own = [item for item in self.datasets if item.summary.precision == self.precision]
        return max(own or self.datasets, key=lambda item: item.summary.last_at, default=None)


def read_run(folder: Path) -> RunRecord:
    """Raises ReportError where the folder holds no ``resolved.yaml``; anything else that is amiss becomes a problem."""
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such run folder; `ortnas run` makes one")
    try:
        configuration = read_yaml(folder / RESOLVED_FILE)
        if not isinstance(configuration, dict):
            raise ValueError("it holds no keys")
    except FileNotFoundError:
        raise ReportError(f"{folder} is no run folder: it holds no {RESOLVED_FILE}") from None
    except (OSError, ValueError) as error:
        raise ReportError(f"{folder / RESOLVED_FILE} cannot be read: {error}") from error
    record = RunRecord(folder, configuration)
    record.events = _dictionaries(folder / "events.jsonl")
    _read_data(record)
    _read_supernet(record)
    record.curves = {path.stem: _dictionaries(path) for path in sorted(folder.glob("curves/*.jsonl"))}
    _read_store(record)
    _read_predictors(record)
    _read_searches(record)
    for path in sorted(folder.glob("packages/comparison-*.json")):
        comparison = _read(record, path, lambda path=path: Comparison.from_json(_json(path)))  # type: ignore[misc]
        if comparison:
            record.comparisons[path.stem.removeprefix("comparison-")] = comparison
    for path in sorted(folder.glob("packages/*/ortnas.json")):
        package = _read(record, path, lambda path=path: _json(path))  # type: ignore[misc]
        if package:
            record.packages[path.parent.name] = package
    if not record.comparisons:
        record.problems.append("No winner is packaged yet: `ortnas export` makes the packages and the result table.")
    return record


def _read(record: RunRecord, path: Path, reader: Callable[[], Document]) -> Document | None:
    """What the reader gives; where it fails, a problem that names the file."""
    try:
        return reader()
    except (*_DAMAGE, OrtnasError, StoreError) as error:
        shown = path.relative_to(record.folder) if path.is_relative_to(record.folder) else path
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        record.problems.append(f"{shown} is left out, it cannot be read: {reason[:_LONGEST_REASON]}.")
        return None


def _json(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError("it holds no keys")
    return document


def _dictionaries(path: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(path) if isinstance(line, dict)]


def _read_data(record: RunRecord) -> None:
    paths = [record.folder / "data" / name for name in ("splits/splits.json", "corpus/corpus.json")]
    for path in paths:
        if path.is_file():
            record.data = _read(record, path, lambda path=path: _json(path)) or {}  # type: ignore[misc]
            return
    record.problems.append("The data is not prepared yet: `ortnas data` reads and splits it.")


def _read_supernet(record: RunRecord) -> None:
    path = record.folder / "supernet" / DESCRIPTION_FILE
    if not path.is_file():
        record.problems.append("There is no supernet yet: `ortnas train` makes it from the checkpoint.")
        return

    def read() -> None:
        document = _json(path)
        record.dimensions = read_dimensions(document["dimensions"])
        record.space = SearchSpace.from_json(document["space"])
        record.labels = tuple(map(str, document.get("labels", ())))
        record.provenance = dict(document.get("provenance", {}))

    _read(record, path, read)


def _read_store(record: RunRecord) -> None:
    path = record.folder / "bench.sqlite"
    datasets = _read(record, path, lambda: _datasets(path)) if path.is_file() else []
    record.datasets = datasets or []
    if datasets == []:
        record.problems.append("Nothing is timed yet: `ortnas bench` times subnets on the target.")


def _datasets(path: Path) -> list[Dataset]:
    datasets = []
    with Store(path) as store:
        for summary in store.summary():
            rows = store.measurements(summary.target, summary.precision, summary.model)
            usable: dict[str, Timing] = {}
            reference = None
            if any(row.samples for row in rows):
                usable, reference = timings(rows, summary.target.workloads)
            subnets = {row.subnet_key: Subnet.from_json(row.subnet) for row in rows}
            datasets.append(Dataset(summary, rows, subnets, usable, reference))
    return datasets


def _read_predictors(record: RunRecord) -> None:
    folders = [path.parent for path in sorted(record.folder.glob("predictor/*/predictor.json"))]
    for folder in folders:
        predictor = _read(record, folder, lambda folder=folder: load_predictor(folder))  # type: ignore[misc]
        if predictor is not None:
            record.predictors.append(predictor)
    if not folders:
        record.problems.append("There is no latency predictor yet: `ortnas fit` fits one to the timings.")


def _read_searches(record: RunRecord) -> None:
    folders = [
        path
        for path in sorted(record.folder.glob("search/*-*"))
        if path.is_dir() and path.name.partition("-")[0] in PRECISIONS and not _is_shared(path)
    ]
    scores = _dictionaries(record.folder / "search" / "scores.jsonl")
    for folder in folders:
        search = _read(record, folder, lambda folder=folder: _search(record, folder, scores))  # type: ignore[misc]
        if search is None:
            continue
        record.searches.append(search)
        if search.result is None:
            record.problems.append(
                f"The search for {search.budget} is not finished: {len(search.candidates)} subnets are scored; "
                f"`ortnas search` goes on."
            )
        elif search.winner is None:
            record.problems.append(f"The search for {search.budget} ended without a winner.")
    own = record.precision
    record.searches.sort(key=lambda item: (item.precision != own, item.precision, -(item.budget_ms or 0.0)))
    if not folders:
        record.problems.append("There is no search yet: `ortnas search` finds the best subnet under each budget.")


def _is_shared(folder: Path) -> bool:
    """Whether it holds the one search of a list of budgets, whose candidates are in each budget's own folder."""
    precision, _, name = folder.name.partition("-")
    return name == "front" and any(folder.parent.glob(f"{precision}-*/search.json"))


def _search(record: RunRecord, folder: Path, scores: Sequence[dict[str, Any]]) -> Search:
    precision, _, budget = folder.name.partition("-")
    result, logged, refinement = read_result(folder), read_log(folder / LOG_FILE), read_refinement(folder)
    if result is None or refinement is None or refinement.search_inputs != result.inputs:
        refinement = None
    return Search(
        name=folder.name,
        precision=precision,
        budget=budget_of_file(budget) if result is None else result.budget.name,
        candidates=tuple(logged.candidates) if result is None else result.candidates,
        failures=tuple(logged.failures.items()),
        result=result,
        full_score=None if result is None else _full_score(record, result.scored_with, scores),
        refinement=refinement,
    )


def _full_score(record: RunRecord, context: str, scores: Sequence[dict[str, Any]]) -> float | None:
    """What the supernet's full network scored on the search's texts, where it was scored."""
    if record.dimensions is None:
        return None
    key = record.dimensions.full_subnet.key
    of_full = [line["score"] for line in scores if (line.get("context"), line.get("subnet_key")) == (context, key)]
    return float(of_full[-1]) if of_full else None
