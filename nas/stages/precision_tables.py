"""What a search for products to leave in float found, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from ortnas.nas.console import Console
from ortnas.nas.stages.variants import Baseline
from ortnas.search.mixed_precision import Ending, Evaluation, PrecisionSearch


def show_alone(console: Console, search: PrecisionSearch, multiply_adds: Mapping[str, int]) -> None:
    total, base = sum(multiply_adds.values()), search.path[0].evaluation
    drift = base.drift or 1.0
    console.table(
        "Each product alone in float, beside INT8: what returns most for its time comes first",
        ("product", "multiply-adds", "score gained", "drift removed", "ms added"),
        [
            (
                product,
                f"{multiply_adds[product] / total:.1%}",
                f"{alone.score - base.score:+.4f}",
                f"{(base.drift - alone.drift) / drift:+.1%}",
                f"{alone.latency_ms - base.latency_ms:+.2f}",
            )
            for product, alone in search.alone.items()
        ],
    )


def show_path(console: Console, metric: str, search: PrecisionSearch, baseline: Baseline) -> None:
    def row(name: str, evaluation: Evaluation, note: str = "") -> tuple[str, ...]:
        figures = f"{evaluation.score:.4f}", f"{evaluation.drift:.4f}", f"{evaluation.latency_ms:.2f}"
        return (name, *figures, note)

    steps = [
        row(f"+ {step.added}" if step.added else "INT8", step.evaluation, "chosen" if step is search.chosen else "")
        for step in search.path
    ]
    console.table(
        "Left in float one after the other",
        ("model", metric.replace("_", " "), "drift from fp32", "ms", ""),
        [row("fp32", baseline.fp32), *steps],
    )


ENDINGS: dict[Ending, str] = {
    "goal": "",
    "limit": "--limit allows no more products",
    "budget": "what would help exceeds the budget",
    "nothing helps": "no other product helps",
}
