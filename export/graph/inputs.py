"""What requests an exported model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ortnas.nas.architecture.dimensions import Dimensions


@dataclass(frozen=True)
class ModelInputs:
    """``shapes``: batch and sequence of all requests, None where both may be any. ``mask``: whether the model is told
    what is padding; without, all tokens of a request count."""

    shapes: tuple[int, int] | None = None
    mask: bool = True

    @property
    def sizes(self) -> tuple[int | str, int | str]:
        """Lengths of the inputs' axes, or names of those that are dynamic."""
        return self.shapes or ("batch", "sequence")

    def to_json(self) -> dict[str, Any]:
        return {"shapes": self.shapes and list(self.shapes), "mask": self.mask}


# Requests of any shape, with a mask.
USUAL_INPUTS = ModelInputs()


def input_names(dimensions: Dimensions, mask: bool = True) -> tuple[str, ...]:
    """Inputs of the exported models; one token type needs no input to choose it."""
    masks = ("attention_mask",) if mask else ()
    types = ("token_type_ids",) if dimensions.token_types > 1 else ()
    return ("input_ids", *masks, *types)
