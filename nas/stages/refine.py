"""Finalists of the searches -> winners trained alone, by successive halving."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.export.weights import read_supernet
from ortnas.nas.console import Console
from ortnas.nas.failures import NotFiniteError, TrainingError
from ortnas.nas.files import append_line, digest, read_lines
from ortnas.nas.run.clock import Clock
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.plan import usual_steps
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.affordable_steps import affordable_steps
from ortnas.nas.stages.courses import recorded
from ortnas.nas.stages.further_training import (
    Alone,
    alone_for,
    score_by,
    score_trained,
    train_alone,
    training_identity,
)
from ortnas.nas.stages.plan import EXPORT_S
from ortnas.nas.stages.winners import finished_searches
from ortnas.search.budget import file_name_of
from ortnas.search.finalists import Finalist
from ortnas.search.halving import relative_cost, rung_shares, rung_sizes, survivors, time_for_each
from ortnas.search.refinement import REFINEMENT_FILE, Refinement, Rung, read_refinement
from ortnas.search.result import SearchResult

# Trainings that were begun and ended: a stage that was killed goes on with the steps that it had chosen.
_LOG_FILE = "log.jsonl"
# Fewer are not worth a training's start.
_LEAST_STEPS = 10
# Steps that were measured on a busy machine say little of those on an idle one, and the other way round.
_PACES = (0.5, 2.0)
# What a training takes beside its steps: to fit a slice to the teacher first, and to save and score it.
_FITTED_S, _SAVED_S = 25.0, 10.0


def refine(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    clock: Clock,
) -> dict[str, Any]:
    """Trains the finalists of every search alone; their results as JSON, by the budgets' names.

    With ``refinement.steps`` 0 nothing is trained, and winners stay as they are in the supernet. Raises PackageError
    where no search has a winner.
    """
    if run_folder.processes > 1:
        raise TrainingError("finalists are trained in one process; `ortnas refine --subnet` trains one in several")
    results = finished_searches(configuration, console, run_folder, texts, run_target, run_models)
    if usual_steps(configuration).refinement == 0:
        for result in results:
            shutil.rmtree(_folder(configuration, run_folder, result), ignore_errors=True)
            (run_folder.search(result.budget.name) / REFINEMENT_FILE).unlink(missing_ok=True)
        console.say("refinement.steps is 0: winners stay as they are in the supernet")
        return {}
    console.heading(
        "refine: winners trained alone",
        "Finalists learn alone what they could not while they shared their weights: all of them briefly, the better "
        "half further, the last one to the end. One that is clearly worse than what went in is not shipped.",
    )
    pace = _Pace()
    halvings = [_Halving(configuration, console, run_folder, texts, run_models, result, pace) for result in results]
    time_left = _time_left(configuration, clock)
    unfinished = [halving for halving in halvings if halving.refinement is None]
    candidates = [len(halving.subnets) for halving in unfinished]
    for number, halving in enumerate(unfinished):
        left_s = None if time_left is None else time_left()
        halving.explore(None if left_s is None else time_for_each(left_s, candidates[number:], candidates))
    for number, halving in enumerate(unfinished):
        halving.finish(None if time_left is None else time_left() / (len(unfinished) - number))
    refinements = [halving.concluded() for halving in halvings]
    _show(console, refinements)
    return {refinement.budget.name: refinement.to_json() for refinement in refinements}


TimeLeft = Callable[[], float]


def _time_left(configuration: Configuration, clock: Clock) -> TimeLeft | None:
    """Seconds that trainings of winners may still take; None where steps are configured, or no minutes."""
    minutes = configuration.training.minutes
    if minutes is None or configuration.refinement.steps is not None:
        return None
    return lambda: minutes * 60 - clock.total_seconds - EXPORT_S


def _folder(configuration: Configuration, run_folder: RunFolder, result: SearchResult) -> Path:
    return run_folder.path / "refined" / f"{configuration.precision}-{file_name_of(result.budget.name)}"


def different_first(result: SearchResult) -> list[Finalist]:
    """Finalists within the budget: the best one, the evenly shrunk one, the best of every other hidden size and depth,
    then the others, best first each.

    Between finalists of one shape the score decides well enough; trainings are for what it may be wrong about.
    """
    within = [finalist for finalist in result.finalists if finalist.meets_budget]
    even = [finalist for finalist in within[1:] if finalist.subnet.key == result.evenly_shrunk]
    first = [*within[:1], *even]
    shapes = {_shape(finalist) for finalist in first}
    for finalist in within:
        if _shape(finalist) not in shapes:
            shapes.add(_shape(finalist))
            first.append(finalist)
    return [*first, *(finalist for finalist in within if finalist not in first)]


def _shape(finalist: Finalist) -> tuple[int, int]:
    return finalist.subnet.hidden_size, len(finalist.subnet.layers)


@dataclass
class _Pace:
    """What steps take of what a few measured ones foretell, as the rung before has shown, of whichever search."""

    factor: float = 1.0

    def learn(self, expected_s: float, spent_s: float) -> None:
        """``expected_s``: with the factor."""
        self.factor = float(np.clip(self.factor * spent_s / expected_s, *_PACES))


@dataclass
class _Halving:
    """The finalists of one search, on their way to a winner."""

    configuration: Configuration
    console: Console
    run_folder: RunFolder
    texts: Texts
    run_models: Models
    result: SearchResult
    pace: _Pace
    rungs: list[Rung] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    # What the steps of the rung that is trained were given, and what they have taken.
    expected_s: float = 0.0
    spent_s: float = 0.0

    def __post_init__(self) -> None:
        settings, winner = self.configuration.refinement, self.result.winner
        assert winner is not None
        # Rules other than the best score chose their winner by its latency too.
        chosen = different_first(self.result)[: settings.finalists] if self.result.rule == "best" else [winner]
        self.winner = winner
        self.subnets = {item.subnet.key: item.subnet for item in chosen}
        self.folder = _folder(self.configuration, self.run_folder, self.result)
        self.inputs = digest(
            self.run_models.supernet.digest,
            self.result.inputs,
            self.result.scored_with,
            list(self.subnets),
            training_identity(self.configuration, self.run_models, self._settings(0)),
            settings.model_dump(),
            self.configuration.training.minutes,
        )
        self.alive = list(self.subnets)
        recorded_refinement = read_refinement(self.run_folder.search(self.result.budget.name))
        is_there = recorded_refinement is not None and recorded_refinement.inputs == self.inputs
        self.refinement = recorded_refinement if is_there else None

    def _settings(self, steps: int, is_last: bool = False) -> Alone:
        quantization_aware = self.configuration.refinement.quantization_aware and is_last
        return alone_for(self.configuration, steps, quantization_aware)

    def explore(self, allowed_s: float | None) -> None:
        """All rungs but the last, of a halving that may take ``allowed_s`` seconds with the last one."""
        sizes, shares = rung_sizes(len(self.subnets)), rung_shares(len(self.subnets))
        for rung, (size, share) in enumerate(zip(sizes[:-1], shares[:-1], strict=True)):
            of_all = size * share / relative_cost(len(self.subnets))
            steps = self._steps(rung, share, None if allowed_s is None else allowed_s * of_all, False)
            if not steps:
                return
            self._train_rung(rung, steps)
            if not self.alive:
                return

    def finish(self, allowed_s: float | None) -> None:
        """The last rung: one subnet, to the end."""
        if not self.alive:
            return
        share = rung_shares(len(self.subnets))[-1]
        self.alive = self.alive[:1]
        steps = self._steps(len(self.rungs), share, allowed_s, True)
        if not steps:
            self.console.say(f"budget {self.result.budget.name}: no time is left to train its winner further")
        # What costs no steps, the fit to the teacher, is worth its seconds in any case.
        if steps or not self.rungs:
            self._train_rung(len(self.rungs), steps, is_last=True)

    def _steps(self, rung: int, share: float, allowed_s: float | None, is_last: bool) -> int:
        """As were chosen before a kill, as configured, or as many as all that are alive can take in the time."""
        self.expected_s = self.spent_s = 0.0
        begun = [line["steps"] for line in self._log("begin") if line["rung"] == rung]
        if begun:
            return int(begun[0])
        if allowed_s is None:
            steps = usual_steps(self.configuration).refinement
            assert steps is not None
            return max(1, round(steps * share))
        alive = [self.subnets[key] for key in self.alive]
        self.expected_s = allowed_s - len(alive) * (_SAVED_S if rung else _FITTED_S)
        if self.expected_s <= 0:
            return 0
        measured_s = self.expected_s / self.pace.factor
        parts = (self.configuration, self.console, self.run_folder, self.run_models)
        steps = affordable_steps(*parts, alive, measured_s, self._settings(0, is_last).quantization_aware)
        return steps if steps >= _LEAST_STEPS else 0

    def _log(self, kind: str) -> list[Mapping[str, Any]]:
        return [line for line in self._lines if line["kind"] == kind]

    @cached_property
    def _lines(self) -> list[Mapping[str, Any]]:
        """What an earlier start noted; nothing where the weights that it noted the scores of are gone."""
        lines = [line for line in read_lines(self.folder / _LOG_FILE) if line.get("inputs") == self.inputs]
        trained = {line["key"] for line in lines if line["kind"] == "end" and line["score"] is not None}
        is_whole = all(recorded(self.folder / key, "inputs") is not None for key in trained)
        return lines if is_whole else []

    def _train_rung(self, rung: int, steps: int, is_last: bool = False) -> None:
        done = {line["key"]: line for line in self._log("end") if line["rung"] == rung}
        seconds: dict[str, float] = {}
        scores: dict[str, float] = {}
        for key in self.alive:
            line = done.get(key) or self._train(key, rung, steps, is_last)
            seconds[key] = float(line["seconds"])
            if line["score"] is not None:
                scores[key] = float(line["score"])
            else:
                self.failures[key] = str(line["reason"])
        if self.expected_s > 0:
            self.pace.learn(self.expected_s, self.spent_s)
        self.rungs.append(Rung(dict.fromkeys(self.alive, steps), seconds, scores))
        self.alive = survivors(scores, self.alive, (len(self.alive) + 1) // 2)

    def _train(self, key: str, rung: int, steps: int, is_last: bool) -> Mapping[str, Any]:
        """One training, noted in the log before and after."""
        subnet, folder, log = self.subnets[key], self.folder / key, self.folder / _LOG_FILE
        line: dict[str, Any] = {"inputs": self.inputs, "key": key, "rung": rung, "steps": steps}
        append_line(log, {"kind": "begin", **line})
        settings = self._settings(steps, is_last)
        inputs = digest(self.inputs, key, [item.steps[key] for item in self.rungs], settings.steps, is_last)
        started = time.monotonic()
        score, reason = None, ""
        parts = (self.configuration, self.console, self.run_folder, self.texts, self.run_models)
        try:
            if recorded(folder, "inputs") != inputs:
                start = folder if rung else self.run_folder.supernet
                self.spent_s += train_alone(*parts, subnet, start, folder, inputs, settings)
            score = score_trained(self.configuration, self.texts, self.run_models, read_supernet(folder), subnet)
            if not math.isfinite(score):
                score, reason = None, "its score is no number"
        except NotFiniteError as error:
            reason = str(error)
        if score is None:
            self.console.say(f"warning: {subnet.describe()}: {reason}")
        line |= {"kind": "end", "seconds": time.monotonic() - started, "score": score, "reason": reason}
        append_line(log, line)
        return line

    def _worse(self, before: float, after: float, key: str) -> str:
        """Why what went in is better than the survivor, clearly and in what is reported; empty where it is not.

        What went in is the best of many on these very texts, and so in part the luckiest. A likelihood alone does not
        tell: a teacher that learned few texts by heart is too sure of itself, and teaches that along with its answers.
        """
        resolution, metric = self.result.resolution, self.result.metric
        margin = resolution.search.half_width
        if after < before - margin and metric != self.texts.metric:
            metric = self.texts.metric
            subnet, margin = self.subnets[key], resolution.reported_on_search
            trained = self.run_models.exporter_of(read_supernet(self.folder / key))
            before, after = (
                score_by(metric, self.configuration, self.run_models, exporter, shipped)
                for exporter, shipped in ((self.run_models.exporter, self.winner.subnet), (trained, subnet))
            )
            self.console.say(
                f"budget {self.result.budget.name}: trained alone it scores less; {metric.replace('_', ' ')} decides, "
                f"and went from {before:.4f} to {after:.4f}"
            )
        if after >= before - margin:
            return ""
        return f"training alone left {after:.4f} of {before:.4f} ({metric.replace('_', ' ')})"

    def concluded(self) -> Refinement:
        """What is shipped: the survivor, or what went in where that scores clearly more. Other weights are removed."""
        if self.refinement is not None:
            return self.refinement
        before, winner = self.winner.score, self.winner.subnet
        # A training that failed leaves the weights of the rung before.
        latest = {key: score for rung in self.rungs for key, score in rung.scores.items()}
        key = next(iter([*self.alive, *reversed(latest)] if latest else []), None)
        after = None if key is None else latest[key]
        reason = "; ".join(self.failures.values())
        if key is None or after is None:
            subnet, weights = winner, None
            reason = reason or "there was no time to train it"
        elif reason_to_keep := self._worse(before, after, key):
            subnet, weights = winner, None
            reason = reason or reason_to_keep
        else:
            subnet, weights = self.subnets[key], str((self.folder / key).relative_to(self.run_folder.path))
        refinement = Refinement(
            self.inputs,
            self.result.inputs,
            self.result.budget,
            self.result.metric,
            subnet,
            weights,
            before,
            after,
            reason,
            tuple(self.rungs),
        )
        refinement.write(self.run_folder.search(self.result.budget.name))
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.is_dir() and (weights is None or folder.name != subnet.key):
                shutil.rmtree(folder)
        self.run_folder.event(
            "refined", budget=refinement.budget.name, subnet_key=subnet.key, before=before, after=after
        )
        return refinement


def _show(console: Console, refinements: Sequence[Refinement]) -> None:
    console.table(
        "Winners trained alone (scores of INT8 models on the search part)" if refinements else "No winners",
        ("budget", "subnet", "trained", "minutes", "before", "alone", ""),
        [
            (
                refinement.budget.label,
                refinement.subnet.describe(),
                f"{refinement.steps} steps",
                f"{refinement.seconds / 60:.1f}",
                f"{refinement.before:.4f}",
                "" if refinement.after is None else f"{refinement.after:.4f}",
                "" if refinement.weights else f"stays as it was: {refinement.reason}",
            )
            for refinement in refinements
        ],
    )
