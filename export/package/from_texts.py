"""What a package holds, of a subnet that was timed by hand and plain texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ortnas.bench.estimates import Timing
from ortnas.bench.target import Target
from ortnas.export.build import Exporter
from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS, suitable_metrics
from ortnas.export.package.package import PackageContent
from ortnas.export.package.record import Facts, Latency
from ortnas.export.package.sample import Sample
from ortnas.export.plain_texts import Text, make_part
from ortnas.nas.architecture.subnet import Subnet


def package_content(
    name: str,
    exporter: Exporter,
    subnet: Subnet,
    model: bytes,
    timing: Timing,
    target: Target,
    texts: Sequence[Text],
    max_length: int = 128,
    budget_ms: float | None = None,
) -> PackageContent:
    """``model`` is the subnet's INT8 model that ``timing`` is of; ``texts`` become the sample that ``verify`` scores.

    They are as in ``export.plain_texts.make_part``.
    """
    part, head = make_part(exporter, texts, max_length), exporter.supernet.dimensions.head
    metric = suitable_metrics(head, exporter.supernet.labels)[0]
    score = METRICS[metric](model_outputs(model, part.encoded, head), part)
    teacher = None if part.teacher is None else np.asarray(part.teacher, np.float64).tolist()
    latency = replace(latency_of(timing, model), speed_up=timing.reference.latency_ms / timing.latency_ms)
    facts = Facts(
        precision="int8", recipe=exporter.recipe, target=target, latency=latency, metric=metric, budget_ms=budget_ms
    )
    sample = Sample(metric, score, part.examples, teacher=teacher)
    return PackageContent(name, model, exporter.supernet, subnet, max_length, sample, facts)


def latency_of(timing: Timing, model: bytes) -> Latency:
    """What a package says of a model that was timed."""
    return Latency(
        measured_ms=timing.latency_ms,
        spread_ms=timing.spread_ms,
        p95_ms=timing.percentile_ms(95),
        visits=[samples.to_json() for samples in timing.visits],
        model_digest=hashlib.sha256(model).hexdigest(),
    )
