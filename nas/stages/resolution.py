"""What differences of scores a run's texts can show, said before a search spends hours on them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from ortnas.export.inference import model_outputs
from ortnas.export.part import Outputs, Part
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.files import digest, write_json
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.texts import Texts
from ortnas.search.resolution import PartResolution, ScoreResolution, half_width

# The middle one of so many random subnets stands for candidates.
_DRAWN = 101


def score_resolution(
    configuration: Configuration, run_folder: RunFolder, texts: Texts, run_models: Models, scored_with: str
) -> ScoreResolution:
    """Half the 95 % interval of a difference of scores: of the ``search`` metric on the search part, and of the
    ``report`` metric on the report part.

    Taken from the paired outputs of two real models, the full one and a mid-size subnet, on the search part; on the
    report part it is smaller by the square root of how many more texts there are. ``scored_with`` names what scores
    are of: computed once, it is not computed again.
    """
    searched, reported = texts.size("search", texts.search_metric), texts.size("report", texts.metric)
    middle = _middle_subnet(configuration, run_models)
    inputs = digest(scored_with, middle.key, texts.metric, texts.search_metric, searched, reported)
    file = run_folder.path / "search" / "resolution.json"
    recorded: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if recorded.get("inputs") != inputs:
        part = run_models.part("search", texts.metric)
        both = _outputs(configuration, run_models, middle, part)
        smaller = math.sqrt(texts.size("search", texts.metric) / reported)
        resolution = ScoreResolution(
            PartResolution(texts.search_metric, searched, half_width(texts.search_metric, *both, part)),
            PartResolution(texts.metric, reported, half_width(texts.metric, *both, part) * smaller),
        )
        write_json(file, {"inputs": inputs, **resolution.to_json()})
        return resolution
    return ScoreResolution.from_json(recorded)


def _middle_subnet(configuration: Configuration, run_models: Models) -> Subnet:
    space = run_models.supernet.space
    genomes = space.sample(_DRAWN, np.random.default_rng(configuration.seed))
    order = np.argsort(space.expand(genomes).multiply_adds, kind="stable")
    return space.decode(genomes[order[len(order) // 2]])


def _outputs(configuration: Configuration, run_models: Models, middle: Subnet, part: Part) -> tuple[Outputs, Outputs]:
    """Of the full model and the mid-size subnet."""
    exporter, precision = run_models.exporter, configuration.precision
    model = exporter.sliced(middle) if precision == "int8" else exporter.build(middle, precision)
    encoded, head = part.encoded, configuration.head
    return model_outputs(run_models.anchor, encoded, head), model_outputs(model, encoded, head)
