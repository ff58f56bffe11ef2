"""The best candidates of a search before its end, timed: how far predictions are off near the budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ortnas.bench.estimates import AnchorLatency
from ortnas.nas.console import Console
from ortnas.nas.files import write_json
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.stages.comparison import time_finally
from ortnas.search.candidate import Candidate
from ortnas.search.correction import Correction, find_correction

PROBES_FILE = "probes.json"
_MOST = 8


def probe(
    console: Console,
    run_target: RunTarget,
    run_models: Models,
    reference: AnchorLatency,
    ranking: Sequence[Candidate],
    level: float,
    folder: Path,
    inputs: str,
) -> Correction | None:
    """How far the best of ``ranking`` are from their predictions, whose bound holds with probability ``level``; None
    where they are too few to tell.

    Timings are kept in ``folder`` under the name of the search's ``inputs``, and not taken again. Raises HostError.
    """
    candidates = ranking[:_MOST]
    measured_ms = _recorded(folder, inputs)
    if measured_ms.keys() != {candidate.subnet.key for candidate in candidates}:
        models = {candidate.subnet.key: run_models.for_timing(candidate.subnet) for candidate in candidates}
        console.say(f"timing the best {len(candidates)} so far, to see how far predictions are off near the budget")
        timings = time_finally(console, run_target, run_models, models, reference)
        measured_ms = {key: timing.latency_ms for key, timing in timings.items()}
        write_json(folder / PROBES_FILE, {"inputs": inputs, "measured_ms": measured_ms})
    correction = find_correction(
        np.array([candidate.latency_ms for candidate in candidates]),
        np.array([candidate.upper_ms for candidate in candidates]),
        np.array([measured_ms[candidate.subnet.key] for candidate in candidates]),
        level,
    )
    if correction is not None:
        console.say(correction.sentence)
    return correction


def _recorded(folder: Path, inputs: str) -> dict[str, float]:
    """By subnet key; empty where nothing of these inputs can be read."""
    try:
        document = json.loads((folder / PROBES_FILE).read_text(encoding="utf-8"))
        if document["inputs"] != inputs:
            return {}
        return {str(key): float(value) for key, value in document["measured_ms"].items()}
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return {}
