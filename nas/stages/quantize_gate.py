"""What INT8 may cost: a bound on the score, and the weight products to blame where it is exceeded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ortnas.bench.host import Host
from ortnas.bench.target import Target
from ortnas.export.build import Exporter
from ortnas.export.intervals import Interval
from ortnas.nas.console import Console
from ortnas.nas.stages.precision_tables import ENDINGS, show_alone, show_path
from ortnas.nas.stages.quantize_texts import QuantizeTexts
from ortnas.nas.stages.variants import GROUP_SIZE, Variants
from ortnas.search.mixed_precision import Goal, PrecisionSearch, search_precision

# What is no loss but rounding of the score itself.
_NOTHING = 1e-9
# Products to leave in float at most, and rounds in which each is timed: enough to see what costs a tenth of a model.
_MOST_PRODUCTS, _ROUNDS = 6, 20


@dataclass(frozen=True)
class Gate:
    """``loss`` is how far the INT8 model's score lies below the float model's. ``blamed`` are the products that return
    most score in float; with ``keep_float`` the loss is within the bound, where that is in reach."""

    max_loss: float
    loss: float
    blamed: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()

    @property
    def is_passed(self) -> bool:
        return self.loss <= self.max_loss + _NOTHING

    def to_json(self) -> dict[str, Any]:
        return {"is_passed": self.is_passed, **asdict(self)}


def check_loss(
    max_loss: float,
    difference: Interval,
    exporter: Exporter,
    texts: QuantizeTexts,
    host: Host,
    target: Target,
    scratch: Path,
    console: Console,
) -> Gate:
    """``difference``: INT8's score to the float model's, on samples of the texts. Raises HostError."""
    gate = Gate(max_loss, -difference.value)
    metric = texts.metric.replace("_", " ")
    sentence = f"INT8 loses {gate.loss:.4f} of {metric}, at most {max_loss:g} may be lost"
    if gate.is_passed:
        console.say(f"\npassed: {sentence}")
        return gate
    console.say(f"\nnot passed: {sentence}; no package is written")
    if -difference.high <= max_loss:
        console.say(
            f"on {texts.part.size} texts that may be chance (95 %: {-difference.high:+.4f} to {-difference.low:+.4f}); "
            f"more texts tell more"
        )
    return _blame(gate, exporter, texts, host, target, scratch, console)


def _blame(
    gate: Gate,
    exporter: Exporter,
    texts: QuantizeTexts,
    host: Host,
    target: Target,
    scratch: Path,
    console: Console,
) -> Gate:
    """The gate with the products that lose most, found as ``ortnas sensitivity`` finds them."""
    subnet = exporter.supernet.dimensions.full_subnet
    console.say("each weight product is left in float alone, then together those that return most:")
    variants = Variants(
        console,
        host,
        target,
        exporter.build(subnet, "int8"),
        texts.part,
        texts.metric,
        exporter,
        subnet,
        scratch / "evaluations.jsonl",
        _ROUNDS,
    )
    baseline, multiply_adds = variants.baseline, variants.multiply_adds()
    goal = Goal(baseline.fp32.score - gate.max_loss - _NOTHING, _MOST_PRODUCTS, math.inf)
    search = search_precision(list(multiply_adds), variants.evaluate, goal, baseline.resolution, GROUP_SIZE)
    show_alone(console, search, multiply_adds)
    show_path(console, texts.metric, search, baseline)
    blamed = _to_blame(search)
    console.say(f"\nto blame: {', '.join(blamed) or 'no product alone'}")
    if search.ending != "goal":
        console.say(f"the bound is out of reach: {ENDINGS[search.ending]}")
        return Gate(gate.max_loss, gate.loss, blamed)
    return Gate(gate.max_loss, gate.loss, blamed, (*exporter.recipe.keep_float, *search.path[-1].kept))


def _to_blame(search: PrecisionSearch) -> tuple[str, ...]:
    """Those that the search left in float, in that order; where it left none, the one that returns most alone."""
    return tuple(step.added for step in search.path[1:]) or tuple(search.alone)[:1]
