"""One subnet's INT8 model -> the weight products to leave in float, and what they bring on the report part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import yaml

from ortnas.export.build import Exporter
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import write_json
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import Entry, compare, show
from ortnas.nas.stages.find_subnet import find_subnet
from ortnas.nas.stages.precision_tables import ENDINGS, show_alone, show_path
from ortnas.nas.stages.variants import GROUP_SIZE, Baseline, Variants
from ortnas.search.budget import Budget
from ortnas.search.comparison import ComparisonRow
from ortnas.search.mixed_precision import Goal, PrecisionSearch, Products, search_precision


def sensitivity(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    name: str | None,
    tolerance: float,
    limit: int,
    budget: str | None,
) -> dict[str, Any]:
    """Searches the products to leave in float, prints them as lines for run.yaml, and compares on the report part.

    ``name`` is a subnet of the supernet (see ``find_subnet``), None the full model. The search ends at a score within
    ``tolerance`` of fp32's, at ``limit`` products, or before the latency exceeds ``budget``. Raises ConfigurationError.
    """
    if configuration.precision != "int8":
        raise ConfigurationError("precision = 'fp32': only INT8 models have products to leave in float")
    asked = None if budget is None else _budget(budget)
    exporter = run_models.teacher_exporter if name is None else run_models.exporter
    subnet = (
        run_models.teacher.dimensions.full_subnet
        if name is None
        else find_subnet(configuration, run_folder, run_models, name)
    )
    exporter.supernet.dimensions.check(subnet)
    if subnet.keep_float:
        # What a search left in float stays so.
        exporter = replace(exporter, recipe=exporter.recipe.keeping(subnet.keep_float))
    title = "full model" if name is None else f"subnet {subnet.key}"
    console.heading(
        f"sensitivity: what INT8 costs the {title}",
        f"{subnet.describe()}. Each weight product is left in float alone, then together those that return most score "
        f"({texts.metric}, search part) for their time.",
    )
    variants = Variants(
        console,
        run_target.host,
        run_models.target,
        run_models.anchor,
        run_models.part("search", texts.metric),
        texts.metric,
        exporter,
        subnet,
        run_folder.path / "sensitivity" / "evaluations.jsonl",
    )
    baseline, multiply_adds = variants.baseline, variants.multiply_adds()
    budget_ms = math.inf if asked is None else asked.limit_ms(baseline.full_ms, configuration.target.concurrency)
    goal = Goal(baseline.fp32.score - tolerance, limit, budget_ms)
    search = search_precision(list(multiply_adds), variants.evaluate, goal, baseline.resolution, GROUP_SIZE)
    show_alone(console, search, multiply_adds)
    show_path(console, texts.metric, search, baseline)
    patterns = (*exporter.recipe.keep_float, *search.chosen.kept)
    _conclude(console, search, baseline, tolerance, patterns)
    rows = _compare(
        configuration,
        console,
        texts,
        run_target,
        run_models,
        exporter,
        subnet,
        None if name is None else subnet.key,
        search.chosen.kept,
    )
    result = {
        "subnet_key": subnet.key,
        "subnet": subnet.to_json(),
        "metric": texts.metric,
        "tolerance": tolerance,
        "baseline": asdict(baseline),
        "multiply_adds": multiply_adds,
        "alone": {product: asdict(evaluation) for product, evaluation in search.alone.items()},
        "path": [asdict(step) for step in search.path],
        "ending": search.ending,
        "keep_float": list(patterns),
        "rows": [row.to_json() for row in rows],
    }
    write_json(variants.file.with_name("full.json" if name is None else f"{subnet.key}.json"), result)
    run_folder.event("sensitivity", subnet_key=subnet.key, keep_float=list(patterns), ending=search.ending)
    return result


def _budget(budget: str) -> Budget:
    try:
        return Budget.parse(budget)
    except ValueError:
        raise ConfigurationError(
            f"--budget {budget}: write ms as 6.5, a speed-up over the full INT8 model as 2x, or requests a second as "
            f"400/s"
        ) from None


def _conclude(
    console: Console, search: PrecisionSearch, baseline: Baseline, tolerance: float, patterns: Sequence[str]
) -> None:
    """What to write into run.yaml, or why nothing; and how far the scores can be trusted."""
    say, fp32, int8, chosen = console.say, baseline.fp32.score, baseline.int8.score, search.chosen
    say()
    if not chosen.kept and search.ending == "goal":
        say(
            f"INT8 scores {int8:.4f}, fp32 {fp32:.4f}: within the tolerance of {tolerance:g}; nothing to leave in float"
        )
        return
    if search.ending != "goal":
        say(f"fp32's {fp32:.4f} is out of reach within the tolerance of {tolerance:g}: {ENDINGS[search.ending]}")
    if not chosen.kept:
        say(
            f"no set beats INT8's {int8:.4f} by more than chance ({baseline.resolution.score:.4f}); nothing is worth it"
        )
        return
    if fp32 - int8 <= baseline.resolution.score:
        chance = math.ceil(baseline.resolution.score * 1e4) / 1e4
        say(
            f"fp32 and INT8 are {fp32 - int8:.4f} apart, which on these texts may be chance; "
            f"--tolerance {chance:.4f} leaves it at that"
        )
    say("in run.yaml (timings and searches are of one recipe; `ortnas run` makes them anew):\n")
    lines = {"quantization": {"keep_float": list(patterns)}}
    say(yaml.safe_dump(lines, default_flow_style=None, width=math.inf).rstrip())


def _compare(
    configuration: Configuration,
    console: Console,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    exporter: Exporter,
    subnet: Subnet,
    key: str | None,
    kept: Products,
) -> list[ComparisonRow]:
    """fp32, INT8 and the chosen model on the report part, which nothing was chosen on."""
    entries = []
    if key is not None:
        entries += [Entry(f"{key}, FP32", exporter, subnet, "fp32"), Entry(f"{key}, INT8", exporter, subnet, "int8")]
    if kept:
        recipe = replace(exporter.recipe, keep_float=(*exporter.recipe.keep_float, *kept))
        name = f"{key or 'full model'}, {len(kept)} in float"
        entries.append(Entry(name, replace(exporter, recipe=recipe), subnet, "int8"))
    compared = compare(configuration, console, texts, run_target, run_models, entries)
    rows = [item.row for item in compared]
    show(configuration, console, texts, run_target, run_models, rows)
    return rows
