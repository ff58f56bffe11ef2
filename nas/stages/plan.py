"""A run's minutes -> how long each stage may take, from a few measured steps."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.failures import TrainingError
from ortnas.nas.files import digest
from ortnas.nas.run.clock import Clock
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.plan import Plan, Steps, read_plan, usual_steps
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.checkpoint import open_run_checkpoint
from ortnas.nas.stages.courses import MEASURED_STEPS, mean_step_seconds
from ortnas.nas.stages.train import choose_space, is_trained, losses_under
from ortnas.nas.text import take
from ortnas.search.halving import relative_cost
from ortnas.search.racing import TEXT_VALUES

if TYPE_CHECKING:
    from ortnas.nas.training.steps import Course

# Share of the time that is left when everything but trainings is paid for: of the teacher where it has to be
# fine-tuned. Winners get the rest, and the supernet no steps but those that are configured: docs/training.md has the
# experiment.
_TEACHER_SHARE = 0.3
_MOST_TEACHER_STEPS = 3000
# Seeing each text more often makes a teacher surer of itself, and no better.
_MOST_TEACHER_EPOCHS = 10
_BENCH_SHARE, _BENCH_MINUTES = 0.1, (1.0, 8.0)
# What opening a checkpoint, its importance and its files take beside its steps.
_TRAIN_OVERHEAD_S = 20.0
# Of a search under one budget: what timing and scoring the best takes, for any network and for a million parameters;
# building a candidate's model; and scoring one by the time that torch takes for the full network, where those that fall
# behind are ended early and where they are not. Chosen on eleven runs, which took 0.4 to 1.7 times what they foretell.
_SEARCH_S, _SEARCH_S_PER_MILLION, _BUILT_S = 20.0, 0.9, 0.1
_RACED_SHARE, _SCORED_SHARE = 0.06, 0.15
EXPORT_S = 60.0
# Below this, a winner's training changes nothing.
_LEAST_WINNER_STEPS = 50
# Texts that are scored to see how long that takes.
_SCORED = 32


def planned_steps(
    configuration: Configuration, console: Console, run_folder: RunFolder, texts: Texts, clock: Clock
) -> Steps:
    """The steps of a run's trainings: as configured or usual, or as its plan says, which is made where there is none.

    Raises TrainingError where the minutes are too few for any training.
    """
    plan = make_plan(configuration, console, run_folder, texts, clock)
    return usual_steps(configuration) if plan is None else plan.steps


def planned_bench_seconds(
    configuration: Configuration, console: Console, run_folder: RunFolder, texts: Texts, clock: Clock
) -> float | None:
    """What is left of the time for timings; None where there is no plan."""
    plan = make_plan(configuration, console, run_folder, texts, clock)
    return None if plan is None else plan.seconds["timing"] - clock.seconds().get("bench", 0.0)


def make_plan(
    configuration: Configuration, console: Console, run_folder: RunFolder, texts: Texts, clock: Clock
) -> Plan | None:
    """The plan for ``training.minutes``, read back or made and shown; None where no minutes are configured.

    Where the minutes changed since, trainings that are done stay as they are. Raises as ``planned_steps``.
    """
    minutes = configuration.training.minutes
    if minutes is None:
        return None
    basis = _basis(configuration, texts)
    plan = read_plan(run_folder.path)
    if plan is not None and plan.basis == basis:
        if plan.minutes == minutes:
            return plan
        if is_trained(configuration, run_folder, texts, plan.steps):
            plan = replace(plan, minutes=minutes)
            plan.write(run_folder.path)
            console.say(f"the plan is now for {minutes:g} minutes; teacher and supernet stay as they were trained")
            return plan
    if run_folder.processes > 1:
        raise TrainingError(
            f"training.minutes = {minutes:g}: each of several processes would measure other steps; plan in one process "
            f"first (`ortnas train`), or set training.minutes=null and steps"
        )
    plan = _measured_plan(configuration, console, texts, minutes, basis, clock.total_seconds)
    plan.write(run_folder.path)
    show_plan(configuration, console, plan)
    return plan


def show_plan(configuration: Configuration, console: Console, plan: Plan) -> None:
    budgets = len(configuration.search.budgets)
    winners = "winner" if budgets == 1 else f"{budgets} winners"
    what = {
        "teacher": f"{plan.steps.teacher} steps of the full network",
        "supernet": f"{plan.steps.supernet} steps, {configuration.training.sampling} sampling"
        if plan.steps.supernet
        else "the checkpoint in order of importance",
        "timing": "as many subnets as fit",
        "search": f"{configuration.search.candidates} candidates for each budget",
        "winners": f"{winners} trained alone"
        + ("" if plan.steps.refinement is None else f" for {plan.steps.refinement} steps"),
        "export": "models timed once more and scored",
    }
    console.table(
        f"Plan for {plan.minutes:g} minutes",
        ("stage", "what", "minutes"),
        [
            (stage, what[stage], f"{seconds / 60:.1f}")
            for stage, seconds in plan.seconds.items()
            if seconds or stage != "teacher"
        ],
    )


def _basis(configuration: Configuration, texts: Texts) -> str:
    return digest(
        texts.checkpoint_digest,
        texts.data.digest,
        configuration.training.model_dump(exclude={"minutes"}),
        configuration.refinement.model_dump(),
        configuration.space.trained,
        configuration.search.model_dump(),
    )


@dataclass(frozen=True)
class _StepSeconds:
    """Of a training step: of the teacher and the supernet, 0 where they take none, and of a winner; and of all
    searches."""

    teacher: float
    supernet: float
    winner: float
    search: float


def _measured_plan(
    configuration: Configuration, console: Console, texts: Texts, minutes: float, basis: str, spent_s: float
) -> Plan:
    console.say("measuring a few training steps, to plan by")
    costs = _measure(configuration, console, texts)
    training, budgets = configuration.training, len(configuration.search.budgets)
    bench_minutes = configuration.bench.minutes or min(
        max(_BENCH_SHARE * minutes, _BENCH_MINUTES[0]), _BENCH_MINUTES[1]
    )
    left_s = minutes * 60 - spent_s - _TRAIN_OVERHEAD_S - bench_minutes * 60 - costs.search - EXPORT_S
    teacher_steps = training.teacher_steps
    if not costs.teacher:
        teacher_steps = 0
    elif teacher_steps is None:
        epochs = _MOST_TEACHER_EPOCHS * len(texts.data.to_fine_tune)
        most = min(_MOST_TEACHER_STEPS, math.ceil(epochs / training.batch_size))
        teacher_steps = min(int(_TEACHER_SHARE * max(left_s, 0.0) / costs.teacher), most)
    teacher_s = teacher_steps * costs.teacher
    supernet_steps = usual_steps(configuration).supernet
    supernet_s = supernet_steps * costs.supernet
    winners_s = left_s - teacher_s - supernet_s
    relative = relative_cost(configuration.refinement.finalists) * budgets
    refinement = configuration.refinement.steps
    needed_s = (_LEAST_WINNER_STEPS if refinement is None else refinement) * costs.winner * relative
    if winners_s < needed_s:
        # Of what is added, the teacher takes its share first.
        share = 1 - _TEACHER_SHARE * (training.teacher_steps is None)
        enough = int(minutes + (needed_s - winners_s) / 60 / share) + 1
        others = bench_minutes + (costs.search + EXPORT_S) / 60
        raise TrainingError(
            f"training.minutes = {minutes:g} is too few: timing, search and export take about {others:.1f}, and "
            f"training a winner a little takes longer than what is left; about {enough} are needed. Fewer budgets and "
            f"candidates need less"
        )
    if refinement is not None:
        winners_s = needed_s
    seconds = {
        "teacher": teacher_s,
        "supernet": _TRAIN_OVERHEAD_S + supernet_s,
        "timing": bench_minutes * 60,
        "search": costs.search,
        "winners": winners_s,
        "export": EXPORT_S,
    }
    return Plan(minutes, basis, Steps(teacher_steps, supernet_steps, refinement), seconds)


def _measure(configuration: Configuration, console: Console, texts: Texts) -> _StepSeconds:
    """Trains copies of the network for a few steps of each kind; a winner is taken to be a subnet of half the cost."""
    from ortnas.nas.training.alone import train_subnet
    from ortnas.nas.training.engine import choose_accelerator
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import choose_probes
    from ortnas.nas.training.step_subnets import Sampler, multiply_adds
    from ortnas.nas.training.steps import fine_tune, network_outputs, train_supernet
    from ortnas.nas.training.supernet import Supernet

    training, refinement, data = configuration.training, configuration.refinement, texts.data
    accelerator = choose_accelerator(training.mixed_precision)
    checkpoint = open_run_checkpoint(configuration, console, texts, data)
    dimensions = checkpoint.dimensions
    network = Supernet(checkpoint.tensors, dimensions)
    teacher = copy.deepcopy(network)
    space = choose_space(configuration, dimensions)
    losses = losses_under(configuration, checkpoint.activation)
    sampler = Sampler(
        space, training.sampling, training.random_subnets, MEASURED_STEPS, configuration.seed, multiply_adds(space)
    )
    full = dimensions.full_subnet
    half = choose_probes(space).get("half", full)

    def step_seconds(
        train: Callable[[Course], None], batch_size: int, subnet: Subnet, fine_tunes: bool = False
    ) -> float:
        return mean_step_seconds(configuration, data, accelerator, subnet, batch_size, train, fine_tunes=fine_tunes)

    rows = min(_SCORED, len(data.held_out("search")))
    started = time.perf_counter()
    network_outputs(network, take(data.held_out("search"), rows), full)
    scoring_s = (time.perf_counter() - started) * len(data.held_out("search")) / rows
    teacher_s = supernet_s = 0.0
    if not checkpoint.head_is_trained:
        teacher_s = step_seconds(
            lambda course: fine_tune(copy.deepcopy(network), course), training.batch_size, full, fine_tunes=True
        )
    if training.steps:
        supernet_s = step_seconds(
            lambda course: train_supernet(
                copy.deepcopy(network), teacher, Objective(losses, dimensions), sampler, course
            ),
            training.batch_size,
            full,
        )
    return _StepSeconds(
        teacher_s,
        supernet_s,
        step_seconds(
            lambda course: train_subnet(copy.deepcopy(network), half, teacher, Objective(losses, dimensions), course),
            refinement.batch_size,
            half,
        ),
        _search_seconds(configuration, texts, scoring_s, sum(tensor.numel() for tensor in teacher.parameters())),
    )


def _search_seconds(configuration: Configuration, texts: Texts, scoring_s: float, parameters: int) -> float:
    """Of the searches under all budgets, from the time that torch takes to score the full network."""
    search = configuration.search
    is_raced = search.race and search.screen and texts.search_metric in TEXT_VALUES
    scored_s = _BUILT_S + scoring_s * (_RACED_SHARE if is_raced else _SCORED_SHARE)
    best_s = len(search.budgets) * (_SEARCH_S + _SEARCH_S_PER_MILLION * parameters / 1e6)
    searches = 1 if search.goal == "front" else len(search.budgets)
    return best_s + searches * search.candidates * scored_s
