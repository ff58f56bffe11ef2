"""What a run folder holds, read for people: each part if it is there, and a sentence for each that is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ortnas.bench.estimates import AnchorLatency, Timing
from ortnas.bench.store import Measurement, Store, StoreError, Summary, timings
from ortnas.bench.target import Target
from ortnas.nas.architecture.layout import DESCRIPTION_FILE, Dimensions
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import RESOLVED_FILE, read_lines
from ortnas.nas.yaml_documents import read_yaml
from ortnas.predictors.features import PRECISIONS
from ortnas.predictors.fitting import Predictor, PredictorError, load_predictor

Part = TypeVar("Part")
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
class Scored:
    """A candidate of a search. ``latency_ms`` is predicted, ``upper_ms`` its bound.

    ``estimated``: scoring ended early, and the score is what was expected.
    """

    subnet: Subnet
    latency_ms: float
    upper_ms: float
    score: float
    estimated: bool = False


@dataclass(frozen=True)
class Measured:
    """A finalist. ``measured_ms`` and ``spread_ms`` were taken after the search."""

    scored: Scored
    measured_ms: float
    spread_ms: float
    meets_budget: bool


@dataclass(frozen=True)
class Search:
    """One search; ``winner`` is None where it has none or is not finished, ``budget_ms`` where it is not known yet.

    ``failures`` are the key and the reason of each candidate that could not be scored, ``resolution`` what differences
    of scores the texts can show (``search.resolution``).
    """

    name: str
    precision: str
    budget: str
    budget_ms: float | None
    reference_ms: float | None
    metric: str
    candidates: list[Scored]
    finalists: list[Measured]
    winner: Measured | None
    is_finished: bool
    full_score: float | None
    failures: list[tuple[str, str]]
    resolution: dict[str, Any] | None = None


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
    comparisons: dict[str, dict[str, Any]] = field(default_factory=dict)
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
        comparison = _read(record, path, lambda path=path: _comparison(path))  # type: ignore[misc]
        if comparison:
            record.comparisons[path.stem.removeprefix("comparison-")] = comparison
    for path in sorted(folder.glob("packages/*/ortnas.json")):
        package = _read(record, path, lambda path=path: _json(path))  # type: ignore[misc]
        if package:
            record.packages[path.parent.name] = package
    if not record.comparisons:
        record.problems.append("No winner is packaged yet: `ortnas export` makes the packages and the result table.")
    return record


def _read(record: RunRecord, path: Path, reader: Callable[[], Part]) -> Part | None:
    """What the reader gives; where it fails, a problem that names the file."""
    try:
        return reader()
    except (*_DAMAGE, SpaceError, StoreError, PredictorError) as error:
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
        record.dimensions = Dimensions.from_json(document["dimensions"])
        record.space = SearchSpace.from_json(document["space"])
        record.labels = tuple(map(str, document.get("labels", ())))
        record.provenance = dict(document.get("provenance", {}))

    _read(record, path, read)


def _read_store(record: RunRecord) -> None:
    path = record.folder / "bench.sqlite"
    found = _read(record, path, lambda: _datasets(path)) if path.is_file() else []
    record.datasets = found or []
    if found == []:
        record.problems.append("Nothing is timed yet: `ortnas bench` times subnets on the target.")


def _datasets(path: Path) -> list[Dataset]:
    found = []
    with Store(path) as store:
        for summary in store.summary():
            rows = store.measurements(summary.target, summary.precision, summary.model)
            usable: dict[str, Timing] = {}
            reference = None
            if any(row.samples for row in rows):
                usable, reference = timings(rows, summary.target.workloads)
            subnets = {row.subnet_key: Subnet.from_json(row.subnet) for row in rows}
            found.append(Dataset(summary, rows, subnets, usable, reference))
    return found


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
        if not search.is_finished:
            record.problems.append(
                f"The search for {search.budget} is not finished: {len(search.candidates)} subnets are scored; "
                f"`ortnas search` goes on."
            )
        elif search.winner is None:
            record.problems.append(f"The search for {search.budget} ended without a winner.")
    own = record.precision
    record.searches.sort(key=lambda one: (one.precision != own, one.precision, -(one.budget_ms or 0.0)))
    if not folders:
        record.problems.append("There is no search yet: `ortnas search` finds the best subnet under each budget.")


def _is_shared(folder: Path) -> bool:
    """Whether it holds the one search of a list of budgets, whose candidates are in each budget's own folder."""
    precision, _, name = folder.name.partition("-")
    return name == "front" and any(folder.parent.glob(f"{precision}-*/search.json"))


def _search(record: RunRecord, folder: Path, scores: Sequence[dict[str, Any]]) -> Search:
    precision, _, budget = folder.name.partition("-")
    result = folder / "search.json"
    document = _json(result) if result.is_file() else {}
    lines = [line for line in _dictionaries(folder / "candidates.jsonl") if "genome" in line]
    subnets = {tuple(line["genome"]): Subnet.from_json(line["subnet"]) for line in lines}

    def subnet_of(genome: Sequence[int]) -> Subnet:
        known = subnets.get(tuple(genome))
        if known is not None:
            return known
        if record.space is None:
            raise ValueError("its subnets cannot be told without the supernet's description")
        return record.space.decode(np.asarray(genome))

    def scored(entry: dict[str, Any], latency: str) -> Scored:
        return Scored(
            subnet_of(entry["genome"]),
            float(entry[latency]),
            float(entry["upper_ms"]),
            float(entry["score"]),
            bool(entry.get("estimated")),
        )

    def measured(entry: dict[str, Any]) -> Measured:
        return Measured(
            scored(entry, "predicted_ms"),
            float(entry["measured_ms"]),
            float(entry["spread_ms"]),
            bool(entry["meets_budget"]),
        )

    entries = [entry for entry in (document["candidates"] if document else lines) if entry.get("score") is not None]
    winner = document.get("winner")
    budget_ms, reference_ms = document.get("budget_ms"), document.get("reference_ms")
    return Search(
        name=folder.name,
        precision=precision,
        budget=str(document.get("budget", budget)),
        budget_ms=None if budget_ms is None else float(budget_ms),
        reference_ms=None if reference_ms is None else float(reference_ms),
        metric=str(document.get("metric", "score")),
        candidates=[scored(entry, "latency_ms") for entry in entries],
        finalists=[measured(entry) for entry in document.get("finalists", [])],
        winner=measured(winner) if winner else None,
        is_finished=bool(document),
        full_score=_full_score(record, document.get("scored_with"), scores),
        failures=[(str(line.get("subnet_key")), str(line["failed"])) for line in lines if "failed" in line],
        resolution=_resolution(document.get("resolution")),
    )


def _resolution(document: Any) -> dict[str, Any] | None:
    """What differences of scores the search's texts can show."""
    if not document:
        return None
    return {
        part: {
            "metric": str(document[part]["metric"]),
            "texts": int(document[part]["texts"]),
            "half_width": float(document[part]["half_width"]),
        }
        for part in ("search", "report")
    }


def _full_score(record: RunRecord, context: Any, scores: Sequence[dict[str, Any]]) -> float | None:
    """What the supernet's full network scored on the search's texts, where it was scored."""
    if record.dimensions is None or context is None:
        return None
    key = record.dimensions.full_subnet.key
    known = [line["score"] for line in scores if (line.get("context"), line.get("subnet_key")) == (context, key)]
    return float(known[-1]) if known else None


def _comparison(path: Path) -> dict[str, Any]:
    document = _json(path)
    for row in document["rows"]:
        row["subnet"] = Subnet.from_json(row["subnet"])
        row["measured_ms"], row["spread_ms"] = float(row["measured_ms"]), float(row["spread_ms"])
        row["scores"] = {str(name): float(value) for name, value in row["scores"].items()}
    if not document["rows"]:
        raise ValueError("it compares nothing")
    return document
