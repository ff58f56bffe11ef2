"""One search from its first candidate to its last: ask, score, tell, with every step on disk where wanted.

One that is killed goes on where it was and ends as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.files import append_line, read_lines
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Proposals
from ortnas.search.evolution import Evolution
from ortnas.search.scoring import Outcome, Scoring, ScoringError

LOG_FILE = "candidates.jsonl"
Report = Callable[[int, int, str], None]
# So many failures before the first score are no accident of some subnets.
_HOPELESS_FAILURES = 8


@dataclass
class Scored:
    """What a search scored: candidates in the order of scoring, reasons of those that failed by subnet key, and
    whether the space was exhausted before as many as wanted were scored."""

    candidates: list[Candidate] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
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
) -> Scored:
    """Scores candidates until ``wanted`` were asked for, ``batch`` of them between two looks at the scores.

    What ``evolution`` has asked for in an earlier call with the same ``log`` is not asked for again.

    ``log`` is JSON Lines: what was asked for and what came of each. It is taken up where it was left if its ``inputs``,
    which name all that the scores depend on, are these, and begun anew otherwise. Without one nothing is written.
    ``keep``: the best so many are worth scoring in full; the others may be ended early by a race. Raises ScoringError
    where nothing can be scored.
    """
    waiting, logged = ([], {}) if log is None else _read(log, inputs)

    def note(line: dict[str, Any]) -> None:
        if log is not None:
            append_line(log, line)

    asked_before = 0
    while waiting and asked_before < evolution.asked:
        asked_before += len(waiting.pop(0).genomes)
    scored = Scored()
    while evolution.asked < wanted:
        if waiting:
            proposals = waiting.pop(0)
            evolution.mark(proposals.genomes)
        else:
            proposals = evolution.ask(min(batch, wanted - evolution.asked))
            if not len(proposals.genomes):
                scored.exhausted = True
                break
            note({"asked": {name: values.tolist() for name, values in proposals._asdict().items()}})
        before = evolution.asked - len(proposals.genomes)
        told: list[Candidate] = []
        for number, entry in enumerate(_entries(evolution, scorer, proposals, keep, logged, note), start=before + 1):
            if "failed" in entry:
                scored.failures[entry["subnet_key"]] = entry["failed"]
            else:
                told.append(Candidate.from_json(entry))
            if len(scored.failures) == number >= _HOPELESS_FAILURES:
                raise ScoringError(f"the first {number} candidates all failed; the last: {entry['failed']}")
            if report is not None:
                best = max((candidate.score for candidate in (*evolution.ranking[:1], *told)), default=None)
                report(number, wanted, "" if best is None else f"best {best:.4f}")
        evolution.tell(told)
        scored.candidates += told
    return scored


def read_log(log: Path) -> Scored:
    """What the log of a search, finished or not, says was scored so far; nothing where there is none."""
    scored = Scored()
    for line in read_lines(log):
        if not isinstance(line, dict) or "genome" not in line:
            continue
        if "failed" in line:
            scored.failures[str(line["subnet_key"])] = str(line["failed"])
        else:
            scored.candidates.append(Candidate.from_json(line))
    return scored


def logged_subnets(log: Path) -> list[Subnet]:
    """Every subnet of a log, scored or failed."""
    return [Subnet.from_json(line["subnet"]) for line in read_lines(log) if "subnet" in line]


def _entries(
    evolution: Evolution,
    scorer: Scoring,
    proposals: Proposals,
    keep: int,
    logged: Mapping[str, dict[str, Any]],
    note: Callable[[dict[str, Any]], None],
) -> Iterator[dict[str, Any]]:
    """What came of each proposal, as the log has it; what is not ``logged`` is scored and noted."""
    subnets = [evolution.space.decode(genome) for genome in proposals.genomes]
    rivals = [None if rival is None else rival.subnet for rival in evolution.rivals(proposals, keep)]
    left = [row for row, subnet in enumerate(subnets) if subnet.key not in logged]
    outcomes = scorer.outcomes([subnets[row] for row in left], [rivals[row] for row in left])
    for row, subnet in enumerate(subnets):
        if subnet.key in logged:
            yield logged[subnet.key]
            continue
        entry = _entry(subnet, proposals, row, next(outcomes))
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


def _read(log: Path, inputs: str) -> tuple[list[Proposals], dict[str, dict[str, Any]]]:
    """What a log of these inputs says was asked for, and what came of it by subnet key; another log is begun anew."""
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
    return asked, {line["subnet_key"]: line for line in lines if "genome" in line}


def confirm(
    candidates: Sequence[Candidate], scorer: Scoring, report: Report | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """The same candidates with another scorer's scores, best first, and the reasons of those that failed by subnet key.

    For candidates that were scored as sliced models: what is shipped is calibrated and quantized by itself.
    """
    subnets = [candidate.subnet for candidate in candidates]
    confirmed: list[Candidate] = []
    failures: dict[str, str] = {}
    outcomes = scorer.outcomes(subnets, [None] * len(subnets))
    for number, (candidate, outcome) in enumerate(zip(candidates, outcomes, strict=True), start=1):
        if outcome.score is None:
            failures[candidate.subnet.key] = outcome.reason
        else:
            confirmed.append(replace(candidate, score=outcome.score, estimated=False))
        if report is not None:
            report(number, len(candidates), "")
    return sorted(confirmed, key=lambda candidate: (-candidate.score, candidate.latency_ms)), failures
