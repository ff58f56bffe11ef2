"""Predictor and supernet -> winners under each budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.estimates import Reference
from nas.files import append_line, digest, write_json
from nas.run import Run
from nas.stages.fit import budget_in_ms, usable_timings
from nas.stages.measuring import time_finally
from predictors.latency import Predictor, PredictorError, find_predictor
from search.evolution import Candidate, Evolution, InfeasibleBudgetError
from search.finalists import Finalist, choose_winner, judge
from search.scoring import Scorer


class SearchError(RuntimeError):
    """A search that ended without a winner; the message says why. ``found`` names the budgets that have one."""

    def __init__(self, message: str, found: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.found = tuple(found)


@dataclass(frozen=True)
class _Setting:
    """What one search needs beside the run."""

    budget: str
    budget_ms: float
    reference: Reference
    predictor: Predictor
    scorer: Scorer
    folder: Path


def search(run: Run) -> dict[str, Any]:
    """Searches under every configured budget. Raises SearchError at the end where a budget found no winner."""
    configuration = run.configuration.search
    run.console.heading(
        "search: the best subnet under each budget",
        f"Evolution proposes subnets whose predicted upper bound is within the budget; each is exported to "
        f"{run.configuration.precision.upper()} ONNX and scored ({run.metric}) by ONNX Runtime on the search split.",
    )
    predictor = checked_predictor(run)
    _, _, reference = usable_timings(run)
    scorer = make_scorer(run)
    results: dict[str, Any] = {}
    problems: list[str] = []
    known: list[Candidate] = []
    for budget in configuration.budgets:
        budget_ms = budget_in_ms(budget, reference.latency_ms)
        setting = _Setting(budget, budget_ms, reference, predictor, scorer, run.search_folder(budget))
        try:
            results[budget], scored = _search_budget(run, setting, known)
            known = _merged(known, scored)
        except (InfeasibleBudgetError, SearchError) as error:
            problems.append(f"budget {budget}: {error}")
            run.console.say(problems[-1])
    if problems:
        raise SearchError("; ".join(problems), found=list(results))
    return results


def make_scorer(run: Run) -> Scorer:
    """Scores subnets of this run's supernet on its search split; ``context`` names what the scores are of."""
    return Scorer(run.exporter, run.part("search"), run.configuration.precision, run.metric, run.scores_file)


def checked_predictor(run: Run) -> Predictor:
    """The run's predictor. Raises PredictorError where it belongs to another target, space or precision."""
    predictor = find_predictor(run.predictors_folder, run.configuration.precision, run.target)
    if predictor.space != run.supernet.space:
        raise PredictorError("the predictor was fitted for another search space; run `ortnas bench` and `ortnas fit`")
    return predictor


def _search_budget(run: Run, setting: _Setting, known: list[Candidate]) -> tuple[dict[str, Any], list[Candidate]]:
    configuration = run.configuration.search
    result_file = setting.folder / "search.json"
    inputs = digest(
        setting.predictor.inputs,
        setting.scorer.context,
        configuration.model_dump(exclude={"budgets"}),
        setting.budget_ms,
        run.configuration.seed,
        [candidate.genome for candidate in known],
    )
    recorded = _recorded(result_file, inputs)
    if recorded is None:
        # What an earlier search found no longer holds, whatever becomes of this one; its scores are kept.
        result_file.unlink(missing_ok=True)
        evolution = Evolution(
            run.supernet.space, setting.predictor, setting.budget_ms, configuration.population, run.configuration.seed
        )
        evolution.tell(known)
        if (
            setting.predictor.predict(run.supernet.space.encode(run.supernet.space.largest)[None])[1][0]
            <= setting.budget_ms
        ):
            run.console.say(f"every subnet meets the budget of {setting.budget_ms:.2f} ms; only the score decides")
        scored = _evolve(run, setting, evolution)
        finalists = _measure_finalists(run, setting, evolution.ranking)
        winner = choose_winner(finalists)
        recorded = {
            "inputs": inputs,
            "scored_with": setting.scorer.context,
            "budget": setting.budget,
            "budget_ms": setting.budget_ms,
            "reference_ms": setting.reference.latency_ms,
            "metric": run.metric,
            "candidates": [vars(candidate) for candidate in scored],
            "finalists": [finalist.to_json() for finalist in finalists],
            "winner": winner.to_json() if winner else None,
        }
        write_json(result_file, recorded)
        run.event("search", budget=setting.budget, inputs=inputs, scored=len(scored), winner=recorded["winner"])
    _show(run, recorded)
    if recorded["winner"] is None:
        fastest = min(finalist["measured_ms"] for finalist in recorded["finalists"])
        raise SearchError(
            f"all {len(recorded['finalists'])} measured finalists exceed {setting.budget_ms:.2f} ms; the nearest took "
            f"{fastest:.2f} ms. Measure more subnets (bench.subnets), or allow more time"
        )
    candidates = [Candidate(**entry | {"genome": tuple(entry["genome"])}) for entry in recorded["candidates"]]
    return recorded, candidates


def _evolve(run: Run, setting: _Setting, evolution: Evolution) -> list[Candidate]:
    """Scores up to ``search.candidates`` subnets; scores of an interrupted search come from the cache."""
    wanted, space = run.configuration.search.candidates, run.supernet.space
    log = setting.folder / "candidates.jsonl"
    log.unlink(missing_ok=True)
    scored: list[Candidate] = []
    with run.console.progress(f"search {setting.budget}") as report:
        while len(scored) < wanted:
            genomes, latency_ms, upper_ms = evolution.ask(
                min(run.configuration.search.population, wanted - len(scored))
            )
            if not len(genomes):
                run.console.say(f"the space holds no more unseen subnets within the budget after {len(scored)}")
                break
            told = []
            for genome, latency, upper in zip(genomes, latency_ms, upper_ms, strict=True):
                subnet = space.decode(genome)
                score = setting.scorer.score(subnet)
                candidate = Candidate(tuple(genome.tolist()), float(latency), float(upper), score)
                told.append(candidate)
                append_line(log, {"subnet_key": subnet.key, "subnet": subnet.to_json(), **vars(candidate)})
                best = max([*evolution.candidates, *told], key=lambda item: item.score)
                report(len(scored) + len(told), wanted, f"best {best.score:.4f} at {best.latency_ms:.2f} ms")
            evolution.tell(told)
            scored += told
    return scored


def _measure_finalists(run: Run, setting: _Setting, ranking: Sequence[Candidate]) -> list[Finalist]:
    """Measures the best candidates on the target, group by group until one is within the budget."""
    size = run.configuration.search.finalists
    finalists: list[Finalist] = []
    for start in range(0, min(len(ranking), 5 * size), size):
        group = ranking[start : start + size]
        run.console.say(f"re-measuring {len(group)} finalists in turn with the full model")
        models = {
            str(position): run.exporter.build(
                run.supernet.space.decode(np.asarray(candidate.genome)), run.configuration.precision
            )
            for position, candidate in enumerate(group)
        }
        found = time_finally(run, models, setting.reference)
        measured = {candidate.genome: found[str(position)] for position, candidate in enumerate(group)}
        finalists += judge(group, measured, setting.budget_ms)
        if choose_winner(finalists) is not None:
            break
    return finalists


def _show(run: Run, recorded: dict[str, Any]) -> None:
    space, count = run.supernet.space, len(recorded["candidates"])
    run.console.table(
        f"Budget {recorded['budget']} = {recorded['budget_ms']:.2f} ms: the best of {count} scored",
        ("subnet", "score", "predicted ms", "measured ms", ""),
        [
            (
                space.decode(np.asarray(finalist["genome"])).describe(),
                f"{finalist['score']:.4f}",
                f"{finalist['predicted_ms']:.2f}",
                f"{finalist['measured_ms']:.2f} ± {finalist['spread_ms']:.2f}",
                "winner" if finalist == recorded["winner"] else "" if finalist["meets_budget"] else "over budget",
            )
            for finalist in recorded["finalists"]
        ],
    )


def _recorded(path: Path, inputs: str) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document if document.get("inputs") == inputs else None


def _merged(known: list[Candidate], scored: list[Candidate]) -> list[Candidate]:
    present = {candidate.genome for candidate in known}
    return known + [candidate for candidate in scored if candidate.genome not in present]
