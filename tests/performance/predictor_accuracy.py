"""How well latencies are predicted: ``python tests/performance/predictor_accuracy.py [--quick] [--json]``.

1. INT8 subnets of MiniLM-L6's default space are timed on this machine, two visits each; of the same random splits, our
   predictor and others learn from 25, 50, 100 and 200 and predict the rest. All errors are on subnets held out.
2. A latency file as AutoTinyBERT's, made with the simulated host: 14,250 rows with 2.8 % of noise, learnt from 100.
3. A predictor of one target becomes one of another by 15 timings, beside one fitted to all 150 of the other.

Timings are kept in ``runs/predictor_accuracy`` and used again by a second run on the same host; ``--fresh`` takes
them anew. The last line of ``--json`` holds ``error_N``, ``kendall_N``, ``window_kendall_N`` (rank correlation within
±10 % of budgets), ``coverage_95`` (at 100), ``noise_floor`` (what repeating the timings changes),
``best_other_error_N``, ``imported_error_100`` and its ``imported_noise``, ``transfer_error_15``, ``fresh_error_150``
and ``transfer_ratio_15`` (the worst of the pairs is ``transfer_ratio_worst``), ``predictions_per_second`` and
``fit_seconds_200``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from bench.estimates import Timing, noise_floor, reference_of
from bench.hosts import LocalHost
from bench.latency_files import read_latency_file, write_latency_file
from bench.simulated import SimulatedHost, cost_ms
from bench.store import Target
from bench.timing import Protocol, Samples, Setup, Workload
from export.build import Exporter
from export.graph import LAYOUT_VERSION
from nas.console import Console
from nas.files import append_line, read_lines
from nas.space import LAYER_DIMENSIONS, SearchSpace, Subnet
from predictors.latency import Predictor, fit
from predictors.predictor import Model
from predictors.quality import mean_window_kendall
from predictors.residual import MOST_ROUNDS, fit_trees
from predictors.sampling import spread_rows, stratified
from predictors.transfer import transfer
from tests.performance.export_speed import make_exporter, write_minilm
from tests.performance.rival_predictors import RIVALS, Array

RECORDINGS = Path("runs") / "predictor_accuracy"
GROUP, VISITS, SAMPLE_SEED = 5, 2, 20
OURS, SLOW = "ours", "AutoTinyBERT's network"
IMPORTED_ROWS, IMPORTED_NOISE = 14250, 0.028
SIMULATED_NOISE = 0.01


class Setting(NamedTuple):
    threads: int
    sequence: int

    @property
    def name(self) -> str:
        return f"int8-{self.threads}x{self.sequence}"


class Plan(NamedTuple):
    """How much is measured; ``subnets`` by setting, the first is what part 1 is about."""

    subnets: dict[Setting, int]
    cap_s: float
    sizes: tuple[int, ...]
    seeds: int
    slow_sizes: tuple[int, ...]
    fresh: int


SETTINGS = (Setting(1, 128), Setting(2, 128), Setting(1, 32))
SIZES = (25, 50, 100, 200)
FULL = Plan(dict(zip(SETTINGS, (330, 200, 200), strict=True)), 0.4, SIZES, 10, SIZES, 150)
QUICK = Plan(dict(zip(SETTINGS, (140, 65, 65), strict=True)), 0.2, SIZES[:3], 3, (100,), 45)


@dataclass(frozen=True)
class Dataset:
    """Measured subnets of one target; ``errors`` None where nothing is known of single timings."""

    space: SearchSpace
    genomes: Array
    latency_ms: Array
    errors: Array | None
    target: dict[str, Any]
    noise_floor: float | None

    def __len__(self) -> int:
        return len(self.latency_ms)

    def rows(self, chosen: Array) -> Dataset:
        errors = None if self.errors is None else self.errors[chosen]
        return replace(self, genomes=self.genomes[chosen], latency_ms=self.latency_ms[chosen], errors=errors)

    def fit(self) -> Predictor:
        return fit(
            self.space, self.genomes, self.latency_ms, self.errors, self.target, "int8", self.noise_floor, "measured"
        )

    def error_of(self, predicted_ms: Array) -> float:
        return float(np.abs(predicted_ms / self.latency_ms - 1).mean())


def record(
    exporter: Exporter, host: LocalHost, setting: Setting, plan: Plan, is_fresh: bool, console: Console
) -> Dataset:
    """Timings of this host, those of an earlier run of this script among them."""
    count, space = plan.subnets[setting], exporter.supernet.space
    setup, workloads = Setup(threads=setting.threads), (Workload(1, setting.sequence),)
    target = Target(host.hello()["fingerprint"], setup, workloads)
    header = {"target": target.hash, "space": space.to_json(), "layout": LAYOUT_VERSION, "cap_s": plan.cap_s}
    header |= {"subnets": count, "seed": SAMPLE_SEED}
    path = RECORDINGS / f"{setting.name}-{count}.jsonl"
    lines = [] if is_fresh else read_lines(path)
    if not lines or lines[0] != header:
        path.unlink(missing_ok=True)
        append_line(path, header)
        lines = []
    genomes = stratified(space, count, np.random.default_rng(SAMPLE_SEED))
    visits: dict[int, list[Samples]] = {row: [] for row in range(len(genomes))}
    for line in lines[1:]:
        visits[line["row"]].append(Samples.from_json(line))
    rng = np.random.default_rng(SAMPLE_SEED)
    anchor = exporter.sliced(exporter.supernet.dimensions.full_subnet)
    protocol = Protocol(cap_s=plan.cap_s)
    with console.progress(f"timing, {setting.threads} thread(s), {setting.sequence} tokens") as report:
        # Both visits far apart, and in other company: what drifts slowly is noise of a timing, too.
        for visit in range(VISITS):
            order = [row for row in rng.permutation(len(genomes)).tolist() if len(visits[row]) <= visit]
            for start in range(0, len(order), GROUP):
                group = {str(row): exporter.sliced(space.decode(genomes[row])) for row in order[start : start + GROUP]}
                for name, found in host.measure(group, anchor, setup, workloads, protocol).items():
                    if not isinstance(found, Samples):
                        raise SystemExit(f"subnet {name} could not be timed: {found.reason}")
                    visits[int(name)].append(found)
                    append_line(path, {"row": int(name), **found.to_json()})
                host.forget()
                report(sum(map(len, visits.values())), VISITS * len(genomes), "")
    reference = reference_of([one for found in visits.values() for one in found], workloads)
    timings = [Timing(tuple(visits[row]), reference) for row in range(len(genomes))]
    latency_ms, errors = (np.array([getattr(one, name) for one in timings]) for name in ("latency_ms", "error"))
    return Dataset(space, genomes, latency_ms, errors, target.to_json(), noise_floor(timings))


def simulate(space: SearchSpace, genomes: Array, setting: Setting, noise: float, seed: int) -> Dataset:
    """The simulated host's costs with normal noise."""
    setup, workload = Setup(threads=setting.threads), Workload(1, setting.sequence)
    costs = np.array([cost_ms(space.decode(genome).to_json(), workload, setup) for genome in genomes])
    latency_ms = costs * np.exp(noise * np.random.default_rng(seed).standard_normal(len(costs)))
    target = Target(SimulatedHost().hello()["fingerprint"], setup, (workload,)).to_json()
    # Two visits' means differ by the noise of one: sqrt(2) * noise / sqrt(2), 0.8 of it on average.
    return Dataset(space, genomes, latency_ms, None, target, noise * float(np.sqrt(2 / np.pi) * np.sqrt(2)))


def split(n: int, size: int, sizes: Sequence[int], seed: int) -> tuple[Array, Array]:
    """Rows to learn from and rows to predict; the latter are the same for all sizes."""
    order = np.random.default_rng(seed).permutation(n)
    return order[:size], order[max(sizes) :]


def is_tried(name: str, size: int, plan: Plan) -> bool:
    return name != SLOW or size in plan.slow_sizes


def learning_curves(data: Dataset, plan: Plan, console: Console) -> dict[tuple[str, int], dict[str, Array]]:
    """Figures of each predictor at each size, one entry per seed."""
    found: dict[tuple[str, int], dict[str, Array]] = {}
    jobs = [(size, name) for size in plan.sizes for name in (OURS, *RIVALS) if is_tried(name, size, plan)]
    with console.progress("predictors") as report:
        for number, (size, name) in enumerate(jobs):
            rows = []
            for seed in range(plan.seeds):
                known, held = (data.rows(part) for part in split(len(data), size, plan.sizes, seed))
                coverage = margin = np.nan
                if name == OURS:
                    predicted_ms, upper_ms = known.fit().predict(held.genomes)
                    coverage, margin = (held.latency_ms <= upper_ms).mean(), (upper_ms / predicted_ms - 1).mean()
                else:
                    predicted_ms = RIVALS[name](data.space, known.genomes, known.latency_ms, held.genomes, seed)
                errors = np.abs(predicted_ms / held.latency_ms - 1)
                kendall = kendalltau(predicted_ms, held.latency_ms).statistic
                window = mean_window_kendall(held.latency_ms, predicted_ms)
                window = np.nan if window is None else window
                within = ((errors <= 0.05).mean(), (errors <= 0.1).mean())
                rows.append((errors.mean(), np.percentile(errors, 95), *within, kendall, window, coverage, margin))
            keys = ("error", "p95", "within_5", "within_10", "kendall", "window", "coverage", "margin")
            found[name, size] = dict(zip(keys, np.array(rows, float).T, strict=True))
            report(number + 1, len(jobs), f"{name}, {size}")
    return found


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
        read = read_latency_file(path)
    subnets = [Subnet.from_json(document) for document, _ in read]
    # Such a file names no host.
    target = made.target | {"fingerprint": {"imported": "latencies.txt"}}
    data = replace(
        made,
        genomes=np.stack([space.encode(subnet) for subnet in subnets]),
        latency_ms=np.array([ms for _, ms in read]),
        target=target,
    )
    errors: dict[str, list[float]] = {}
    for seed in range(plan.seeds):
        known, held = (data.rows(part) for part in split(len(data), 100, (100,), seed))
        errors.setdefault(OURS, []).append(held.error_of(known.fit().predict(held.genomes)[0]))
        for name, rival in RIVALS.items():
            # The network is slow, and one split of 14,150 rows to predict says enough.
            if name != SLOW or (seed == 0 and len(plan.slow_sizes) > 1):
                predicted_ms = rival(space, known.genomes, known.latency_ms, held.genomes, seed)
                errors.setdefault(name, []).append(held.error_of(predicted_ms))
    return {name: float(np.mean(values)) for name, values in errors.items()} | {"rows": float(len(data))}


def transfers(
    datasets: dict[str, Dataset], pairs: Sequence[tuple[str, str]], plan: Plan
) -> dict[str, dict[str, float]]:
    """Errors after 15 timings of the second of each pair, and of fits to many, on the rest."""
    found = {}
    for source, target in pairs:
        data, of_source, rows = datasets[target], datasets[source].fit(), []
        for seed in range(plan.seeds):
            known, held = (data.rows(part) for part in split(len(data), plan.fresh, (plan.fresh,), seed))
            few = known.rows(spread_rows(data.space, known.genomes, 15, np.random.default_rng(seed)))
            moved = transfer(of_source, few.genomes, few.latency_ms, few.errors, data.target, None, "few")
            predicted_ms, upper_ms = moved.predict(held.genomes)
            scratch, many = few.fit(), known.fit()
            others = [held.error_of(one.predict(held.genomes)[0]) for one in (scratch, many)]
            rows.append([held.error_of(predicted_ms), *others, float((held.latency_ms <= upper_ms).mean())])
        found[f"{source} → {target}"] = dict(
            zip(("transfer", "scratch", "fresh", "coverage"), np.mean(rows, axis=0).tolist(), strict=True)
        )
    return found


def speed(data: Dataset) -> dict[str, float]:
    """Genomes per second from genome to bound in a population of 10,000, with as many trees as there can be."""
    size = min(200, len(data) - 1)
    known = data.rows(np.arange(size))
    start = time.perf_counter()
    predictor = known.fit()
    seconds = time.perf_counter() - start
    sizes = np.random.default_rng(0).random((size, 5), np.float32)
    residual = np.random.default_rng(1).normal(0, 0.1, size)
    trees = fit_trees(sizes, residual, 0.1, None, MOST_ROUNDS)
    full = replace(predictor, model=Model(predictor.model.prior, trees, 1.0))
    genomes = data.space.sample(10_000, np.random.default_rng(2))
    rates = {}
    for name, one in (("as_fitted", predictor), ("all_trees", full)):
        taken = []
        for _ in range(30):
            start = time.perf_counter()
            one.predict(genomes)
            taken.append(time.perf_counter() - start)
        rates[name] = len(genomes) / float(np.median(taken))
    return rates | {"fit_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="time anew what an earlier run has timed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    console = Console(to_stderr=arguments.json)
    with tempfile.TemporaryDirectory() as name, LocalHost() as host:
        write_minilm(Path(name))
        exporter = make_exporter(Path(name))
        measured = {
            setting: record(exporter, host, setting, plan, arguments.fresh, console) for setting in plan.subnets
        }
    data = next(iter(measured.values()))
    curves = learning_curves(data, plan, console)
    file_errors = imported(plan)
    simulated = simulate(data.space, data.genomes, Setting(1, 128), SIMULATED_NOISE, 3)
    names = {Setting(1, 128): "1 thread, 128 tokens", Setting(2, 128): "2 threads", Setting(1, 32): "32 tokens"}
    datasets = {names[setting]: one for setting, one in measured.items()} | {"simulated": simulated}
    first = names[Setting(1, 128)]
    pairs = [pair for pair in permutations(datasets, 2) if first in pair]
    moved = transfers(datasets, pairs, plan)
    rates = speed(data)
    show(console, data, curves, file_errors, moved, rates, plan, {names[key]: one for key, one in measured.items()})
    if arguments.json:
        print(json.dumps(figures(data, curves, file_errors, moved, rates, plan)))


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
        (name, str(len(one)), f"{one.latency_ms.min():.2f} to {one.latency_ms.max():.2f}", f"{one.noise_floor:.2%}")
        for name, one in measured.items()
        if one.noise_floor is not None
    ]
    console.table("Timings of INT8 subnets on this machine", ("target", "subnets", "ms", "noise floor"), rows)
    rows = []
    for size in plan.sizes:
        for name in (name for name in (OURS, *RIVALS) if (name, size) in curves):
            one = {key: values.mean() for key, values in curves[name, size].items()}
            spread = curves[name, size]["error"].std()
            errors = (f"{one['error']:.2%} ± {spread:.2%}", f"{one['p95']:.1%}", f"{one['within_5']:.0%}")
            window = known_mean(curves[name, size]["window"])
            ranks = (f"{one['kendall']:.3f}", "" if window is None else f"{window:.2f}")
            bound = (f"{one['coverage']:.1%}", f"{one['margin']:.1%}") if name == OURS else ("", "")
            rows.append((str(size), name, *errors, f"{one['within_10']:.0%}", *ranks, *bound))
    columns = ("learnt from", "predictor", "mean error", "95th pct.", "≤ 5 %", "≤ 10 %", "Kendall", "±10 %", "covered")
    console.table(
        f"Held-out errors of {plan.seeds} splits; noise floor {data.noise_floor:.2%}",
        (*columns, "bound above"),
        rows,
    )
    rows = [(name, f"{error:.2%}") for name, error in file_errors.items() if name != "rows"]
    title = (
        f"100 of {file_errors['rows']:.0f} imported rows with {IMPORTED_NOISE:.1%} of noise: error on the noisy rest"
    )
    console.table(title, ("predictor", "mean error"), rows)
    rows = [
        (
            pair,
            *(f"{one[key]:.2%}" for key in ("transfer", "scratch", "fresh")),
            f"{one['transfer'] / one['fresh']:.2f}",
            f"{one['coverage']:.1%}",
        )
        for pair, one in moved.items()
    ]
    columns = ("transfer", "15 timings", "15 without source", f"{plan.fresh} timings", "ratio", "covered")
    console.table("Errors after a transfer", columns, rows)
    console.say(
        f"\n{rates['as_fitted']:,.0f} predictions a second in a population of 10,000, {rates['all_trees']:,.0f} with "
        f"all trees; a fit takes {rates['fit_seconds']:.2f} s."
    )


def known_mean(values: Array) -> float | None:
    """None where no split had enough subnets near a budget."""
    return None if np.isnan(values).all() else float(np.nanmean(values))


def figures(
    data: Dataset,
    curves: dict[tuple[str, int], dict[str, Array]],
    file_errors: dict[str, float],
    moved: dict[str, dict[str, float]],
    rates: dict[str, float],
    plan: Plan,
) -> dict[str, Any]:
    found: dict[str, Any] = {"noise_floor": data.noise_floor, "subnets": len(data)}
    for size in plan.sizes:
        one = {key: float(values.mean()) for key, values in curves[OURS, size].items()}
        found |= {f"error_{size}": one["error"], f"error_p95_{size}": one["p95"], f"kendall_{size}": one["kendall"]}
        found |= {f"window_kendall_{size}": known_mean(curves[OURS, size]["window"])}
        found[f"coverage_95_{size}"] = one["coverage"]
        tried = [name for name in RIVALS if (name, size) in curves]
        others = {name: float(curves[name, size]["error"].mean()) for name in tried}
        found |= {f"best_other_error_{size}": min(others.values()), f"other_errors_{size}": others}
        windows = [known_mean(curves[name, size]["window"]) for name in tried]
        found[f"best_other_window_kendall_{size}"] = max(
            (value for value in windows if value is not None), default=None
        )
    found["coverage_95"] = found["coverage_95_100"]
    found |= {"imported_error_100": file_errors[OURS], "imported_noise": IMPORTED_NOISE * float(np.sqrt(2 / np.pi))}
    ratios = [one["transfer"] / one["fresh"] for one in moved.values()]
    found["transfer_error_15"] = float(np.mean([one["transfer"] for one in moved.values()]))
    found[f"fresh_error_{plan.fresh}"] = float(np.mean([one["fresh"] for one in moved.values()]))
    found |= {"transfer_ratio_15": float(np.mean(ratios)), "transfer_ratio_worst": max(ratios), "transfers": moved}
    found |= {"predictions_per_second": rates["all_trees"], "predictions_per_second_as_fitted": rates["as_fitted"]}
    return found | {"fit_seconds_200": rates["fit_seconds"]}


if __name__ == "__main__":
    main()
