"""Predictor and supernet -> winners under each budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ortnas.bench.estimates import AnchorLatency, Timing
from ortnas.bench.host import StoredHost
from ortnas.export.size import SIZE_ERROR_BYTES, model_bytes
from ortnas.nas.console import Console
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.finalists import measure_finalists, scored_on_report, show_result
from ortnas.nas.stages.fit import checked_predictor, usable_timings
from ortnas.nas.stages.probes import probe
from ortnas.nas.stages.resolution import score_resolution
from ortnas.nas.stages.scoring import make_scorer
from ortnas.predictors.fitting import Predictor, PredictorError, load_predictor
from ortnas.search.budget import Budget
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint, SizeLimit
from ortnas.search.correction import CorrectedPredictor, Correction
from ortnas.search.evolution import Evolution, InfeasibleError, Settings
from ortnas.search.finalists import LatencyLimit, choose_winner
from ortnas.search.loop import LOG_FILE, Scored, confirm, run_search
from ortnas.search.methods import list_candidates
from ortnas.search.resolution import ScoreResolution
from ortnas.search.result import RESULT_FILE, SearchResult, SearchResultError, read_result
from ortnas.search.rivals import evenly_shrunk_within
from ortnas.search.scoring import FitnessScorer, Scorer

# Of screened candidates, so many for each finalist are scored again as they would be shipped.
_CONFIRMED = 4
# A quarter of the candidates are looked for once timings have corrected predictions near the budget.
_CORRECTED = 4


class SearchError(OrtnasError):
    """A search that ended without a winner; the message says why. ``successful`` names the budgets that have one."""

    def __init__(self, message: str, successful: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.successful = tuple(successful)


def search(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
) -> dict[str, Any]:
    """Searches under every configured budget: their results as JSON, by the budgets' names.

    Raises SearchError at the end where a budget found no winner, and at once where finalists could not be measured.
    """
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
        f"Runtime on the search part; the best are measured again.",
    )
    searches = _Searches(configuration, console, run_folder, texts, run_target, run_models)
    resolution = score_resolution(configuration, run_folder, texts, run_models, searches.final_scorer.context)
    console.say(resolution.sentence)
    front = searches.whole_front() if settings.goal == "front" else None
    results: dict[str, Any] = {}
    problems: list[str] = []
    scored: list[Candidate] = []
    for budget in settings.budgets:
        try:
            result = searches.under(budget, resolution, scored if front is None else front)
            results[budget.name] = result.to_json()
            scored = _merged(scored, result.candidates)
        except (InfeasibleError, SearchError) as error:
            problems.append(f"budget {budget.name}: {error}")
            console.say(problems[-1])
    if problems:
        raise SearchError("; ".join(problems), successful=list(results))
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
    searches = _Searches(configuration, console, run_folder, texts, run_target, run_models)
    budget = configuration.search.budgets[0]
    budget_ms = searches.limit_ms(budget)
    space, rng = run_models.supernet.space, np.random.default_rng(configuration.seed)
    constraints = searches.constraints(searches.median_limit_ms(budget))
    listed = list_candidates(space, constraints, n, rng, size_limit=searches.size_limit)
    subnets = [space.decode(genome) for genome in listed.genomes]
    rows = list(zip(subnets, listed.latency_ms.tolist(), listed.upper_ms.tolist(), strict=True))
    console.table(
        f"Subnets closest below {budget_ms:.2f} ms",
        ("key", "subnet", "predicted ms", "bound ms"),
        [(subnet.key, subnet.describe(), f"{latency:.2f}", f"{upper:.2f}") for subnet, latency, upper in rows],
    )
    return {
        "budget_ms": budget_ms,
        "subnets": [
            {"key": subnet.key, "subnet": subnet.to_json(), "latency_ms": latency, "upper_ms": upper}
            for subnet, latency, upper in rows
        ],
    }


class _Searches:
    """What all searches of a run share. ``scorer`` looks for candidates, ``final_scorer`` scores what may be shipped.

    ``_tails`` are how much longer what budgets are about is than the median, over all timings, by the percentile; None
    for the mean.
    """

    def __init__(
        self,
        configuration: Configuration,
        console: Console,
        run_folder: RunFolder,
        texts: Texts,
        run_target: RunTarget,
        run_models: Models,
    ) -> None:
        self.configuration, self.console, self.run_folder, self.texts = configuration, console, run_folder, texts
        self.run_target, self.run_models = run_target, run_models
        self.settings, self.space = configuration.search, run_models.supernet.space
        _, usable, reference = usable_timings(run_folder, run_models)
        self.reference: AnchorLatency = reference
        self.others = [_other(run_models, Path(other.predictor), other.budget_ms) for other in self.settings.targets]
        parts = (configuration, console, run_folder, texts, run_target, run_models)
        self.scorer: Scorer | FitnessScorer = make_scorer(*parts, screening=True)
        self.final_scorer: Scorer | FitnessScorer = make_scorer(*parts)
        percents = {self.percent(budget) for budget in self.settings.budgets}
        self._tails = {percent: _tail(usable.values(), percent) for percent in percents}
        self.predictor: Predictor = checked_predictor(configuration, run_folder, run_models)

    def limit_ms(self, budget: Budget) -> float:
        return budget.limit_ms(self.reference.latency_ms, self.configuration.target.concurrency)

    def median_limit_ms(self, budget: Budget) -> float:
        """Predictions are of medians, so a budget for a percentile or the mean is brought to one for the median."""
        return self.limit_ms(budget) / self._tails[self.percent(budget)]

    def percent(self, budget: Budget) -> Literal[50, 95] | None:
        """Which percentile of the latency the budget is about; None for the mean."""
        return None if budget.is_throughput else self.settings.percentile

    @cached_property
    def size_limit(self) -> SizeLimit | None:
        """What model files may take, where that is configured."""
        most_mb = self.settings.max_size_mb
        if most_mb is None:
            return None
        dimensions = self.run_models.supernet.dimensions
        recipe = self.run_models.recipe if self.configuration.precision == "int8" else None
        return SizeLimit(
            lambda genomes: model_bytes(dimensions, self.space.expand(genomes), recipe) + SIZE_ERROR_BYTES,
            most_mb * 1e6,
        )

    def constraints(self, median_ms: float) -> list[Constraint]:
        return [Constraint(self.predictor, median_ms), *self.others]

    def whole_front(self) -> list[Candidate]:
        """One search for all budgets: the front of score against latency."""
        # Nothing slower than the largest budget can win.
        slowest_ms = max(map(self.median_limit_ms, self.settings.budgets))
        evolution = self._evolution(slowest_ms, "front")
        candidates, _ = self._candidates(evolution, "front", self._inputs("front", slowest_ms))
        return candidates

    def under(self, budget: Budget, resolution: ScoreResolution, scored: list[Candidate]) -> SearchResult:
        """The search for one budget, or what it ended with before. ``scored`` are candidates of other searches, and
        with the goal ``front`` all candidates. Raises SearchError."""
        budget_ms, folder = self.limit_ms(budget), self.run_folder.search(budget.name)
        about = ["mean"] if budget.is_throughput else []
        inputs = self._inputs(budget_ms, [candidate.genome for candidate in scored], *about)
        result = _recorded(folder, inputs)
        if result is None:
            # What an earlier search ended with no longer holds, whatever becomes of this one; its scores are kept.
            (folder / RESULT_FILE).unlink(missing_ok=True)
            evolution = self._evolution(self.median_limit_ms(budget), "budget")
            evolution.tell(scored)
            self._say_if_trivial(budget)
            correct = partial(self._correct, evolution, self.median_limit_ms(budget), folder, inputs)
            if self.settings.goal == "front":
                candidates, correction = scored, correct()
            else:
                candidates, correction = self._candidates(evolution, budget.name, inputs, correct)
            ranking = self._confirmed(evolution.ranking)
            result = self._concluded(budget, inputs, resolution, candidates, ranking, correction)
            result.write(folder)
            winner = result.to_json()["winner"]
            self.run_folder.event("search", budget=budget.name, inputs=inputs, scored=len(candidates), winner=winner)
        show_result(self.console, result)
        if result.winner is None:
            raise SearchError(
                f"all {len(result.finalists)} measured finalists exceed {budget_ms:.2f} ms; the nearest took "
                f"{result.fastest_ms:.2f} ms. Measure more subnets (bench.subnets), or allow more time"
            )
        return result

    def _concluded(
        self,
        budget: Budget,
        inputs: str,
        resolution: ScoreResolution,
        candidates: Sequence[Candidate],
        ranking: Sequence[Candidate],
        correction: Correction | None,
    ) -> SearchResult:
        """Measures the best and chooses the winner."""
        if not ranking:
            raise SearchError("no candidate within the budget was scored in full")
        settings, budget_ms = self.settings, self.limit_ms(budget)
        limit = LatencyLimit(budget_ms, self.percent(budget))
        evenly_shrunk = self._evenly_shrunk(self.median_limit_ms(budget), ranking)
        parts = (self.configuration, self.console, self.run_target, self.run_models, self.reference)
        measured = measure_finalists(*parts, limit, ranking, evenly_shrunk)
        finalists = scored_on_report(self.configuration, self.texts, self.run_models, measured)
        return SearchResult(
            inputs=inputs,
            scored_with=self.final_scorer.context,
            budget=budget,
            budget_ms=budget_ms,
            percentile=limit.percent,
            reference_ms=self.reference.latency_ms,
            metric=self.texts.search_metric,
            resolution=resolution,
            rule=settings.rule,
            candidates=tuple(candidates),
            correction=correction,
            evenly_shrunk=evenly_shrunk[0].subnet.key if evenly_shrunk else None,
            finalists=finalists,
            winner=choose_winner(finalists, settings.rule, settings.tolerance),
        )

    def _evenly_shrunk(self, median_ms: float, ranking: Sequence[Candidate]) -> list[Candidate]:
        """The one near the budget that needs no search, scored as it would be shipped: what is cut evenly scores badly
        before it is trained, and may be as good as any after. Nothing where it is among the best, or has no score."""
        proposals = evenly_shrunk_within(self.space, self.constraints(median_ms), self.size_limit)
        if proposals is None:
            return []
        genome, latency_ms, upper_ms = (values[0] for values in proposals)
        subnet = self.space.decode(genome)
        if subnet in [candidate.subnet for candidate in ranking[: self.settings.finalists]]:
            return []
        score = next(iter(self.final_scorer.outcomes([subnet], [None]))).score
        return [] if score is None else [Candidate.of(self.space, genome, latency_ms, upper_ms, score)]

    def _evolution(self, median_ms: float, goal: Literal["budget", "front"]) -> Evolution:
        chosen = Settings(goal, self.settings.method, self.settings.population, self.settings.surrogate)
        return Evolution(self.space, self.constraints(median_ms), chosen, self.configuration.seed, self.size_limit)

    def _inputs(self, *more: Any) -> str:
        """Names all that a search depends on; how many processors score is no part of it."""
        return digest(
            self.predictor.inputs,
            [other.budget_ms for other in self.others],
            self.scorer.context,
            self.final_scorer.context,
            self.settings.model_dump(exclude={"budgets", "workers", "engine", "cluster"}),
            self.configuration.seed,
            *more,
        )

    def _candidates(
        self, evolution: Evolution, name: str, inputs: str, correct: Callable[[], Correction | None] | None = None
    ) -> tuple[list[Candidate], Correction | None]:
        """Candidates in the order of scoring; an interrupted search goes on where it was. The last of them are looked
        for with what ``correct`` has found out about those before."""
        log, keep = self.run_folder.search(name) / LOG_FILE, _CONFIRMED * self.settings.finalists

        def scored_until(wanted: int) -> Scored:
            with self.console.progress(f"search {name}") as report:
                return run_search(evolution, self.scorer, wanted, log, inputs, report, keep=keep)

        count, correction = self.settings.candidates, None
        parts = []
        if correct is not None:
            parts.append(scored_until(count - count // _CORRECTED))
            correction = correct()
        parts.append(scored_until(count))
        candidates = [candidate for part in parts for candidate in part.candidates]
        if parts[-1].exhausted:
            self.console.say(f"the space holds no more unseen subnets within the budget after {len(candidates)}")
        failures = {key: reason for part in parts for key, reason in part.failures.items()}
        if failures:
            reason = next(iter(failures.values()))
            self.console.say(f"{len(failures)} candidates could not be scored; the first: {reason}")
        return candidates, correction

    def _correct(self, evolution: Evolution, median_ms: float, folder: Path, inputs: str) -> Correction | None:
        """Has the search go on with predictions as the best candidates' timings correct them."""
        correction = probe(
            self.console,
            self.run_target,
            self.run_models,
            self.reference,
            evolution.ranking,
            self.predictor.level,
            folder,
            inputs,
        )
        if correction is not None:
            corrected = CorrectedPredictor(self.predictor, correction)
            evolution.constrain([Constraint(corrected, median_ms), *self.others])
        return correction

    def _say_if_trivial(self, budget: Budget) -> None:
        _, upper_ms = self.predictor.predict(self.space.encode(self.space.largest)[None])
        if upper_ms[0] <= self.median_limit_ms(budget):
            self.console.say(f"every subnet meets the budget of {self.limit_ms(budget):.2f} ms; only the score decides")

    def _confirmed(self, ranking: Sequence[Candidate]) -> list[Candidate]:
        """The best candidates in the order of the scores that they would be shipped with."""
        if self.scorer.context == self.final_scorer.context:
            return list(ranking)
        best = ranking[: _CONFIRMED * self.settings.finalists]
        with self.console.progress("scored as shipped") as report:
            confirmed, failures = confirm(best, self.final_scorer, report)
        if failures:
            reason = next(iter(failures.values()))
            self.console.say(f"{len(failures)} candidates could not be quantized; the first: {reason}")
        return confirmed


def _other(run_models: Models, folder: Path, budget_ms: float) -> Constraint:
    predictor = load_predictor(folder)
    if predictor.space != run_models.supernet.space:
        raise PredictorError(f"{folder}: the predictor of a second target has to be of the same search space")
    return Constraint(predictor, budget_ms, f"{predictor.target.fingerprint.get('cpu', 'the second target')}")


def _tail(timings: Iterable[Timing], percent: Literal[50, 95] | None) -> float:
    limit = LatencyLimit(math.inf, percent)
    return float(np.median([limit.measured_ms(timing) / timing.latency_ms for timing in timings]))


def _recorded(folder: Path, inputs: str) -> SearchResult | None:
    """What cannot be read is searched for again."""
    try:
        result = read_result(folder)
    except SearchResultError:
        return None
    return result if result is not None and result.inputs == inputs else None


def _merged(earlier: Sequence[Candidate], scored: Sequence[Candidate]) -> list[Candidate]:
    # One whose scoring was ended early under one budget may be worth it under the next.
    present = {candidate.subnet for candidate in earlier}
    return [
        *earlier,
        *(candidate for candidate in scored if candidate.subnet not in present and not candidate.estimated),
    ]
