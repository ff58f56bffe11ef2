"""One search from its first candidate to its last: ask, score, tell, with every step on disk where wanted.

One that is killed goes on where it was and ends as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.files import append_line, read_lines
from ortnas.search.constraints import Proposals
from ortnas.search.evolution import Candidate, Evolution
from ortnas.search.scoring import Outcome, Scoring, ScoringError

Report = Callable[[int, int, str], None]
# So many failures before the first score are no accident of some subnets.
_HOPELESS_FAILURES = 8


@dataclass
class Found:
    """What a search came upon: candidates in the order of scoring, reasons of those that failed by genome, and
    whether the space was exhausted before as many as wanted were scored."""

    candidates: list[Candidate] = field(default_factory=list)
    failures: dict[tuple[int, ...], str] = field(default_factory=dict)
    exhausted: bool = False


def run_search(
    evolution: Evolution,
    scorer: Scoring,
    wanted: int,
    log: Path | None = None,
    inputs: str = "",
    report: Report | None = None,
    batch: int = 16,
    keep: int = 8,
) -> Found:
    """Scores ``wanted`` candidates, ``batch`` of them between two looks at the scores.

    ``log`` is JSON Lines: what was asked for and what came of each. It is taken up where it was left if its ``inputs``,
    which name all that the scores depend on, are these, and begun anew otherwise. Without one nothing is written.
    ``keep``: the best so many are worth scoring in full; the others may be ended early by a race. Raises ScoringError
    where nothing can be scored.
    """
    waiting, known = ([], {}) if log is None else _read(log, inputs)

    def note(line: dict[str, Any]) -> None:
        if log is not None:
            append_line(log, line)

    found = Found()
    while evolution.asked < wanted:
        if waiting:
            proposals = waiting.pop(0)
            evolution.mark(proposals.genomes)
        else:
            proposals = evolution.ask(min(batch, wanted - evolution.asked))
            if not len(proposals.genomes):
                found.exhausted = True
                break
            note({"asked": {name: values.tolist() for name, values in proposals._asdict().items()}})
        before = evolution.asked - len(proposals.genomes)
        told: list[Candidate] = []
        for number, entry in enumerate(_entries(evolution, scorer, proposals, keep, known, note), start=before + 1):
            if "failed" in entry:
                found.failures[tuple(entry["genome"])] = entry["failed"]
            else:
                told.append(_candidate(entry))
            if len(found.failures) == number >= _HOPELESS_FAILURES:
                raise ScoringError(f"the first {number} candidates all failed; the last: {entry['failed']}")
            if report is not None:
                best = max((one.score for one in (*evolution.ranking[:1], *told)), default=None)
                report(number, wanted, "" if best is None else f"best {best:.4f}")
        evolution.tell(told)
        found.candidates += told
    return found


def _entries(
    evolution: Evolution,
    scorer: Scoring,
    proposals: Proposals,
    keep: int,
    known: Mapping[tuple[int, ...], dict[str, Any]],
    note: Callable[[dict[str, Any]], None],
) -> Iterator[dict[str, Any]]:
    """What came of each proposal; what is not known is scored and noted."""
    genomes = [tuple(genome) for genome in proposals.genomes.tolist()]
    subnets = [evolution.space.decode(genome) for genome in proposals.genomes]
    rivals = [
        None if rival is None else evolution.space.decode(np.array(rival.genome))
        for rival in evolution.rivals(proposals, keep)
    ]
    left = [row for row, genome in enumerate(genomes) if genome not in known]
    outcomes = scorer.outcomes([subnets[row] for row in left], [rivals[row] for row in left])
    for row, genome in enumerate(genomes):
        if genome in known:
            yield known[genome]
            continue
        entry = _entry(subnets[row], proposals, row, next(outcomes))
        note(entry)
        yield entry


def _entry(subnet: Subnet, proposals: Proposals, row: int, outcome: Outcome) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "subnet_key": subnet.key,
        "subnet": subnet.to_json(),
        "genome": proposals.genomes[row].tolist(),
        "latency_ms": float(proposals.latency_ms[row]),
        "upper_ms": float(proposals.upper_ms[row]),
    }
    if outcome.score is None:
        return entry | {"failed": outcome.reason}
    return entry | {"score": outcome.score, "estimated": outcome.estimated, "texts": outcome.texts}


def _candidate(entry: dict[str, Any]) -> Candidate:
    return Candidate(tuple(entry["genome"]), entry["latency_ms"], entry["upper_ms"], entry["score"], entry["estimated"])


def _read(log: Path, inputs: str) -> tuple[list[Proposals], dict[tuple[int, ...], dict[str, Any]]]:
    """What a log of these inputs says was asked for, and what came of it by genome; another log is begun anew."""
    lines = read_lines(log)
    if not lines or lines[0] != {"inputs": inputs}:
        log.unlink(missing_ok=True)
        append_line(log, {"inputs": inputs})
        lines = []
    asked = [
        Proposals(
            np.array(line["asked"]["genomes"], np.int16),
            np.array(line["asked"]["latency_ms"]),
            np.array(line["asked"]["upper_ms"]),
        )
        for line in lines
        if "asked" in line
    ]
    return asked, {tuple(line["genome"]): line for line in lines if "genome" in line}


def confirm(
    candidates: Sequence[Candidate], space: SearchSpace, scorer: Scoring, report: Report | None = None
) -> tuple[list[Candidate], dict[tuple[int, ...], str]]:
    """The same candidates with another scorer's scores, best first, and the reasons of those that failed.

    For candidates that were scored as sliced models: what is shipped is calibrated and quantized by itself.
    """
    subnets = [space.decode(np.array(candidate.genome)) for candidate in candidates]
    confirmed: list[Candidate] = []
    failures: dict[tuple[int, ...], str] = {}
    outcomes = scorer.outcomes(subnets, [None] * len(subnets))
    for number, (candidate, outcome) in enumerate(zip(candidates, outcomes, strict=True), start=1):
        if outcome.score is None:
            failures[candidate.genome] = outcome.reason
        else:
            confirmed.append(replace(candidate, score=outcome.score, estimated=False))
        if report is not None:
            report(number, len(candidates), "")
    return sorted(confirmed, key=lambda one: (-one.score, one.latency_ms)), failures
