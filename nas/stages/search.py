"""Predictor and supernet -> winners under each budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.estimates import AnchorLatency, Timing
from ortnas.bench.host import StoredHost
from ortnas.export.inference import model_outputs
from ortnas.nas.console import Console
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import digest, write_json
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import difference, null_thresholds, time_finally
from ortnas.nas.stages.fit import budget_in_ms, checked_predictor, usable_timings
from ortnas.nas.stages.resolution import score_resolution
from ortnas.nas.stages.scoring import make_scorer
from ortnas.predictors.fitting import Predictor, PredictorError, load_predictor
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Candidate, Evolution, InfeasibleBudgetError, Settings
from ortnas.search.finalists import Budget, Finalist, choose_winner, hit_rate, judge
from ortnas.search.intervals import score_intervals
from ortnas.search.loop import confirm, run_search
from ortnas.search.methods import list_candidates
from ortnas.search.resolution import resolution_sentence
from ortnas.search.scoring import FitnessScorer, Scorer

# Of screened candidates, so many for each finalist are scored again as they would be shipped.
_CONFIRMED = 4
# Groups of finalists that are measured before a budget counts as missed.
_GROUPS = 5
_FULL = "full model"


class SearchError(OrtnasError):
    """A search that ended without a winner; the message says why. ``found`` names the budgets that have one."""

    def __init__(self, message: str, found: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.found = tuple(found)


@dataclass(frozen=True)
class _Setting:
    """What all searches of a run share. ``scorer`` looks for candidates, ``final_scorer`` scores what may be shipped.

    ``tail`` is how much longer the percentile that budgets are about is than the median, over all timings;
    ``resolution`` what differences of scores the texts can show.
    """

    reference: AnchorLatency
    predictor: Predictor
    others: tuple[Constraint, ...]
    scorer: Scorer | FitnessScorer
    final_scorer: Scorer | FitnessScorer
    tail: float
    resolution: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Line:
    """One budget: as configured, in ms of the percentile that it is about, and where its search is written down."""

    name: str
    budget_ms: float
    folder: Path


def search(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
) -> dict[str, Any]:
    """Searches under every configured budget. Raises SearchError at the end where a budget found no winner, and at once
    where finalists could not be measured."""
    settings = configuration.search
    if isinstance(run_target.host, StoredHost):
        raise SearchError(
            f"{run_target.host.name} cannot be reached, and no finalist measured there; `ortnas search --candidates N` "
            "lists what its predictor allows, `ortnas export --subnet KEY` packages one of them on another host"
        )
    console.heading(
        "search: the best subnet under each budget",
        f"Subnets whose predicted upper bound is within the budget are exported to "
        f"{configuration.precision.upper()} ONNX and scored ({texts.search_metric.replace('_', ' ')}) by ONNX "
        f"Runtime on the search split; the best are measured again.",
    )
    setting = _setting(configuration, console, run_folder, texts, run_target, run_models)
    setting = replace(
        setting, resolution=score_resolution(configuration, run_folder, texts, run_models, setting.final_scorer.context)
    )
    console.say(resolution_sentence(setting.resolution))
    lines = [
        _Line(name, budget_in_ms(name, setting.reference.latency_ms), run_folder.search(name))
        for name in settings.budgets
    ]
    front = _whole_front(configuration, console, run_folder, run_models, setting) if settings.goal == "front" else None
    results: dict[str, Any] = {}
    problems: list[str] = []
    known: list[Candidate] = []
    for line in lines:
        try:
            results[line.name], scored = _search_budget(
                configuration,
                console,
                run_folder,
                texts,
                run_target,
                run_models,
                setting,
                line,
                known if front is None else front,
            )
            known = _merged(known, scored)
        except (InfeasibleBudgetError, SearchError) as error:
            problems.append(f"budget {line.name}: {error}")
            console.say(problems[-1])
    if problems:
        raise SearchError("; ".join(problems), found=list(results))
    return results


def list_within_budget(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    n: int,
) -> dict[str, Any]:
    """The subnets whose bound lies closest below the first budget, without scoring them (the seed's ``candidates``)."""
    setting = _setting(configuration, console, run_folder, texts, run_target, run_models)
    name = configuration.search.budgets[0]
    budget_ms = budget_in_ms(name, setting.reference.latency_ms)
    constraints = _constraints(setting, budget_ms)
    found = list_candidates(run_models.supernet.space, constraints, n, np.random.default_rng(configuration.seed))
    subnets = [run_models.supernet.space.decode(genome) for genome in found.genomes]
    console.table(
        f"Subnets closest below {budget_ms:.2f} ms",
        ("key", "subnet", "predicted ms", "bound ms"),
        [
            (subnet.key, subnet.describe(), f"{latency:.2f}", f"{upper:.2f}")
            for subnet, latency, upper in zip(subnets, found.latency_ms, found.upper_ms, strict=True)
        ],
    )
    return {
        "budget_ms": budget_ms,
        "subnets": [
            {"key": subnet.key, "subnet": subnet.to_json(), "latency_ms": float(latency), "upper_ms": float(upper)}
            for subnet, latency, upper in zip(subnets, found.latency_ms, found.upper_ms, strict=True)
        ],
    }


def _setting(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
) -> _Setting:
    settings = configuration.search
    _, usable, reference = usable_timings(run_folder, run_models)
    others = tuple(_other(run_models, Path(other.predictor), other.budget_ms) for other in settings.targets)
    scorer, final = (
        make_scorer(configuration, console, run_folder, texts, run_target, run_models, screening=True),
        make_scorer(configuration, console, run_folder, texts, run_target, run_models),
    )
    tail = _tail(usable.values(), settings.percentile)
    return _Setting(reference, checked_predictor(configuration, run_folder, run_models), others, scorer, final, tail)


def _other(run_models: Models, folder: Path, budget_ms: float) -> Constraint:
    predictor = load_predictor(folder)
    if predictor.space != run_models.supernet.space:
        raise PredictorError(f"{folder}: the predictor of a second target has to be of the same search space")
    return Constraint(predictor, budget_ms, f"{predictor.target.fingerprint.get('cpu', 'the second target')}")


def _tail(timings: Any, percent: int) -> float:
    if percent == 50:
        return 1.0
    return float(np.median([timing.percentile_ms(percent) / timing.latency_ms for timing in timings]))


def _constraints(setting: _Setting, budget_ms: float) -> list[Constraint]:
    """Predictions are of medians, so a budget for a percentile is brought to one for the median."""
    return [Constraint(setting.predictor, budget_ms / setting.tail), *setting.others]


def _evolution(
    configuration: Configuration, run_models: Models, setting: _Setting, budget_ms: float, goal: Any
) -> Evolution:
    settings = configuration.search
    chosen = Settings(goal, settings.method, settings.population, settings.surrogate)
    return Evolution(run_models.supernet.space, _constraints(setting, budget_ms), chosen, configuration.seed)


def _inputs(configuration: Configuration, setting: _Setting, *more: Any) -> str:
    """Names all that a search depends on; how many processors score is no part of it."""
    return digest(
        setting.predictor.inputs,
        [other.budget_ms for other in setting.others],
        setting.scorer.context,
        setting.final_scorer.context,
        configuration.search.model_dump(exclude={"budgets", "workers", "engine", "cluster"}),
        configuration.seed,
        *more,
    )


def _whole_front(
    configuration: Configuration, console: Console, run_folder: RunFolder, run_models: Models, setting: _Setting
) -> list[Candidate]:
    """One search for all budgets: the front of score against latency."""
    folder = run_folder.path / "search" / f"{configuration.precision}-front"
    # Nothing slower than the largest budget can win.
    slowest_ms = max(budget_in_ms(name, setting.reference.latency_ms) for name in configuration.search.budgets)
    evolution = _evolution(configuration, run_models, setting, slowest_ms, "front")
    return _run(
        configuration,
        console,
        setting,
        evolution,
        folder,
        _inputs(configuration, setting, "front", slowest_ms),
        "front",
    )


def _run(
    configuration: Configuration,
    console: Console,
    setting: _Setting,
    evolution: Evolution,
    folder: Path,
    inputs: str,
    name: str,
) -> list[Candidate]:
    """Candidates in the order of scoring; an interrupted search goes on where it was."""
    settings = configuration.search
    with console.progress(f"search {name}") as report:
        log, keep = folder / "candidates.jsonl", _CONFIRMED * settings.finalists
        found = run_search(evolution, setting.scorer, settings.candidates, log, inputs, report, keep=keep)
    if found.exhausted:
        console.say(f"the space holds no more unseen subnets within the budget after {len(found.candidates)}")
    if found.failures:
        reason = next(iter(found.failures.values()))
        console.say(f"{len(found.failures)} candidates could not be scored; the first: {reason}")
    return found.candidates


def _search_budget(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    setting: _Setting,
    line: _Line,
    known: list[Candidate],
) -> tuple[dict[str, Any], list[Candidate]]:
    settings = configuration.search
    result_file = line.folder / "search.json"
    inputs = _inputs(configuration, setting, line.budget_ms, [candidate.genome for candidate in known])
    recorded = _recorded(result_file, inputs)
    if recorded is None:
        # What an earlier search found no longer holds, whatever becomes of this one; its scores are kept.
        result_file.unlink(missing_ok=True)
        evolution = _evolution(configuration, run_models, setting, line.budget_ms, "budget")
        evolution.tell(known)
        _say_if_trivial(console, run_models, setting, line)
        is_front = settings.goal == "front"
        scored = known if is_front else _run(configuration, console, setting, evolution, line.folder, inputs, line.name)
        ranking = _confirmed(configuration, console, run_models, setting, evolution.ranking)
        if not ranking:
            raise SearchError("no candidate within the budget was scored in full")
        finalists = _measure_finalists(configuration, console, run_target, run_models, setting, line, ranking)
        winner = choose_winner(finalists, settings.rule, settings.tolerance)
        recorded = {
            "inputs": inputs,
            "scored_with": setting.final_scorer.context,
            "budget": line.name,
            "budget_ms": line.budget_ms,
            "percentile": settings.percentile,
            "reference_ms": setting.reference.latency_ms,
            "metric": texts.search_metric,
            "resolution": setting.resolution,
            "rule": settings.rule,
            "candidates": [vars(candidate) | {"genome": list(candidate.genome)} for candidate in scored],
            "finalists": _described(configuration, texts, run_models, finalists),
            "hit_rate": hit_rate(finalists),
            "winner": winner.to_json() if winner else None,
        }
        write_json(result_file, recorded)
        run_folder.event("search", budget=line.name, inputs=inputs, scored=len(scored), winner=recorded["winner"])
    _show(console, run_models, recorded)
    if recorded["winner"] is None:
        fastest = min(finalist["measured_ms"] for finalist in recorded["finalists"])
        raise SearchError(
            f"all {len(recorded['finalists'])} measured finalists exceed {line.budget_ms:.2f} ms; the nearest took "
            f"{fastest:.2f} ms. Measure more subnets (bench.subnets), or allow more time"
        )
    candidates = [Candidate(**entry | {"genome": tuple(entry["genome"])}) for entry in recorded["candidates"]]
    return recorded, candidates


def _say_if_trivial(console: Console, run_models: Models, setting: _Setting, line: _Line) -> None:
    space = run_models.supernet.space
    _, upper_ms = setting.predictor.predict(space.encode(space.largest)[None])
    if upper_ms[0] * setting.tail <= line.budget_ms:
        console.say(f"every subnet meets the budget of {line.budget_ms:.2f} ms; only the score decides")


def _confirmed(
    configuration: Configuration, console: Console, run_models: Models, setting: _Setting, ranking: Sequence[Candidate]
) -> list[Candidate]:
    """The best candidates in the order of the scores that they would be shipped with."""
    if setting.scorer.context == setting.final_scorer.context:
        return list(ranking)
    best = ranking[: _CONFIRMED * configuration.search.finalists]
    with console.progress("scored as shipped") as report:
        found, failures = confirm(best, run_models.supernet.space, setting.final_scorer, report)
    if failures:
        console.say(f"{len(failures)} candidates could not be quantized; the first: {next(iter(failures.values()))}")
    return found


def _measure_finalists(
    configuration: Configuration,
    console: Console,
    run_target: RunTarget,
    run_models: Models,
    setting: _Setting,
    line: _Line,
    ranking: Sequence[Candidate],
) -> list[Finalist]:
    """Measures the best candidates on the target, group by group until one is within the budget."""
    settings, space = configuration.search, run_models.supernet.space
    budget = Budget(line.budget_ms, settings.percentile)
    finalists: list[Finalist] = []
    for start in range(0, min(len(ranking), _GROUPS * settings.finalists), settings.finalists):
        group = ranking[start : start + settings.finalists]
        console.say(f"re-measuring {len(group)} finalists in turn with the full model")
        models = {
            str(position): run_models.exporter.build(
                space.decode(np.asarray(candidate.genome)), configuration.precision
            )
            for position, candidate in enumerate(group)
        }
        found = time_finally(console, run_target, run_models, models, setting.reference)
        timings: dict[tuple[int, ...], Sequence[Timing]] = {
            candidate.genome: [found[str(position)]] for position, candidate in enumerate(group)
        }
        finalists += judge(group, timings, [budget])
        if choose_winner(finalists) is not None:
            break
    return sorted(finalists, key=lambda finalist: (-finalist.candidate.score, finalist.measured_ms))


def _described(
    configuration: Configuration, texts: Texts, run_models: Models, finalists: Sequence[Finalist]
) -> list[dict[str, Any]]:
    """Finalists with their scores on the report part, which chose nothing, and how far they lie from the full model."""
    space, precision, head = run_models.supernet.space, configuration.precision, configuration.head
    part = run_models.part("report")
    models = {_FULL: run_models.anchor}
    for number, finalist in enumerate(finalists):
        models[str(number)] = run_models.exporter.build(space.decode(np.asarray(finalist.candidate.genome)), precision)
    outputs = {name: model_outputs(model, part.encoded, head) for name, model in models.items()}
    intervals = score_intervals(
        texts.metric, outputs, part, _FULL, configuration.seed, null_thresholds(configuration, run_models, models)
    )
    return [
        finalist.to_json() | {"report": {name: one.to_json() for name, one in intervals[str(number)].items()}}
        for number, finalist in enumerate(finalists)
    ]


def _show(console: Console, run_models: Models, recorded: dict[str, Any]) -> None:
    space, count = run_models.supernet.space, len(recorded["candidates"])
    winner = recorded["winner"] and recorded["winner"]["genome"]
    console.table(
        f"Budget {recorded['budget']} = {recorded['budget_ms']:.2f} ms: the best of {count} scored; report split with "
        f"95 % intervals",
        ("subnet", "score", "report", "to the full model", "predicted ms", "measured ms", ""),
        [
            (
                space.decode(np.asarray(finalist["genome"])).describe(),
                f"{finalist['score']:.4f}",
                _interval(finalist["report"]["score"]),
                difference(finalist["report"]["difference"]),
                f"{finalist['predicted_ms']:.2f}",
                f"{finalist['measured_ms']:.2f} ± {finalist['spread_ms']:.2f}",
                "winner" if finalist["genome"] == winner else "" if finalist["meets_budget"] else "over budget",
            )
            for finalist in recorded["finalists"]
        ],
    )


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def _recorded(path: Path, inputs: str) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document if document.get("inputs") == inputs else None


def _merged(known: list[Candidate], scored: list[Candidate]) -> list[Candidate]:
    # One whose scoring was ended early under one budget may be worth it under the next.
    present = {candidate.genome for candidate in known}
    return known + [one for one in scored if one.genome not in present and not one.estimated]
