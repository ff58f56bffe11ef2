"""Which tokens a masked language model has to guess."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ortnas.nas.text import IGNORED, Feeds


@dataclass(frozen=True)
class Masking:
    """Masked language modelling: 15 % of the tokens are targets; of these 80 % become the mask token, 10 % a random
    one, 10 % stay (Devlin et al. 2019, "BERT", appendix A.1)."""

    mask_id: int
    special_ids: tuple[int, ...]
    vocab_size: int
    share: float = 0.15

    def apply(self, feeds: Feeds, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Masks ``input_ids`` in place; returns labels [batch, sequence]. Every batch has at least one target."""
        ids = feeds["input_ids"]
        allowed = (feeds["attention_mask"] == 1) & ~np.isin(ids, self.special_ids)
        draws = rng.random(ids.shape)
        chosen = allowed & (draws < self.share)
        if not chosen.any():
            chosen.flat[np.where(allowed, draws, 2.0).argmin()] = True
        labels = np.where(chosen, ids, IGNORED)
        kind = rng.random(ids.shape)
        ids[chosen & (kind < 0.8)] = self.mask_id
        replaced = chosen & (kind >= 0.8) & (kind < 0.9)
        ids[replaced] = rng.integers(0, self.vocab_size, int(replaced.sum()))
        return labels
