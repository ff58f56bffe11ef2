"""The keys of ``export`` in run.yaml, and whether texts and requests suit them."""

from __future__ import annotations

from ortnas.export.graph.inputs import ModelInputs
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.run.configuration_values import Section, Size
from ortnas.nas.run.target_keys import TargetHost


class Export(Section):
    """What requests exported models take, whether they are timed, scored or packaged.

    ``shapes``: batch and sequence of every request, in place of any. ``mask``: whether models are told what is padding.
    """

    shapes: tuple[Size, Size] | None = None
    mask: bool = True

    @property
    def inputs(self) -> ModelInputs:
        return ModelInputs(self.shapes, self.mask)


def check_requests(export: Export, target: TargetHost, head: str) -> None:
    """Raises ValueError where models could not be asked what the target asks."""
    asked = [(kind.batch, kind.sequence) for kind in target.requests]
    if export.shapes is not None and set(asked) != {export.shapes}:
        batch, sequence = export.shapes
        requests = ", ".join(f"{kind[0]} x {kind[1]}" for kind in asked)
        raise ValueError(
            f"export.shapes: the model takes requests of {batch} x {sequence} tokens alone, and the target's are "
            f"{requests}; set target.batch: {batch} and target.sequence: {sequence}"
        )
    if export.mask:
        return
    if HEADS[head].makes_token_vectors:
        raise ValueError(f"export.mask: false: head {head!r} fills queries up with tokens that a mask leaves out")
    if target.lengths == "full":
        return
    if export.shapes is not None:
        raise ValueError(
            f"export.mask: false: texts of less than {export.shapes[1]} tokens are padded to export.shapes, and that "
            f"needs a mask; where no text is shorter, set target.lengths: full"
        )
    largest = max(batch for batch, _ in asked)
    if largest > 1:
        raise ValueError(
            f"export.mask: false: a batch of {largest} texts that differ in length is padded, which needs a mask; "
            f"set target.batch: 1, or where they never differ target.lengths: full"
        )
