"""A run -> what a package's model card says beside the model's own figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.origin import read_origin
from nas.run import Run


def card_facts(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals of a comparison's row, the data, and what the checkpoint says of its name and licence."""
    source = run.configuration.data
    return {
        "intervals": row["intervals"],
        "data": {"source": source.source, "task": source.task, "texts": run.trained_data.counts["training"]},
        "origin": read_origin(run.checkpoint).to_json(),
    }
