"""Which tokens a masked language model has to guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ortnas.nas.failures import DataError
from ortnas.nas.text import IGNORED, EncodedExamples, Feeds

if TYPE_CHECKING:
    from tokenizers import Tokenizer


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

    def masked(self, plain: EncodedExamples, rng: np.random.Generator) -> EncodedExamples:
        """All rows masked, one after the other."""
        ids, labels = [], []
        for row in range(len(plain)):
            feeds = plain.feeds([row])
            labels.append(self.apply(feeds, rng)[0].tolist())
            ids.append(feeds["input_ids"][0].tolist())
        return EncodedExamples(ids, plain.type_ids, labels)


def masking_by(tokenizer: Tokenizer) -> Masking:
    """With a tokenizer's own mask token. Raises DataError where it has none."""
    mask_id = next((tokenizer.token_to_id(name) for name in ("[MASK]", "<mask>") if tokenizer.token_to_id(name)), 0)
    if not mask_id:
        raise DataError("the checkpoint's tokenizer has no mask token, so masked-lm cannot be trained with it")
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    return Masking(mask_id, tuple(sorted(special)), tokenizer.get_vocab_size())
