"""What requests an exported model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ortnas.bench.timing import Workload
from ortnas.nas.architecture.dimensions import Dimensions


@dataclass(frozen=True)
class ModelInputs:
    """``shapes``: batch and sequence of all requests, None where both may be any. ``mask``: whether the model is told
    what is padding; without, all tokens of a request count."""

    shapes: tuple[int, int] | None = None
    mask: bool = True

    @property
    def sizes(self) -> dict[str, int | str]:
        """By the names of the inputs' axes their lengths, or again the names of those that are dynamic."""
        names = ("batch", "sequence")
        return dict(zip(names, self.shapes or names, strict=True))

    def to_json(self) -> dict[str, Any]:
        return {"shapes": self.shapes and list(self.shapes), "mask": self.mask}


# Requests of any shape, with a mask.
USUAL_INPUTS = ModelInputs()


def inputs_for(workload: Workload) -> ModelInputs:
    """What a model takes that was timed with such requests."""
    return ModelInputs((workload.batch, workload.sequence) if workload.fixed else None, workload.mask)


def input_names(dimensions: Dimensions, mask: bool = True) -> tuple[str, ...]:
    """Inputs of the exported models; one token type needs no input to choose it."""
    masks = ("attention_mask",) if mask else ()
    types = ("token_type_ids",) if dimensions.token_types > 1 else ()
    return ("input_ids", *masks, *types)
