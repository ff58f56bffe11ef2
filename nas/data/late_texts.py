"""How late interaction reads queries and the documents that they look for, as the checkpoint's library does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ortnas.nas.text import EncodedExamples, Example

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class LateTexts:
    """The prompts come first. Queries have at most ``query_length`` tokens and are filled up to it by ``filling``, a
    mask token (None: they are not), which other tokens attend to where ``is_filling_attended``. Tokens that are one of
    ``skipped_words`` do not count in documents (Khattab & Zaharia 2020, "ColBERT", section 3.2)."""

    query_prompt: str
    document_prompt: str
    query_length: int
    filling: str | None
    is_filling_attended: bool
    skipped_words: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LateTexts:
        return cls(**{**document, "skipped_words": tuple(document["skipped_words"])})

    def with_prompts(self, examples: Sequence[Example], queries: Collection[int]) -> list[Example]:
        """``queries`` are the rows of the examples that are no documents."""
        return [
            replace(example, text=(self.query_prompt if row in queries else self.document_prompt) + example.text)
            for row, example in enumerate(examples)
        ]

    def encode(
        self, tokenizer: Tokenizer, examples: Sequence[Example], queries: Collection[int], max_length: int
    ) -> EncodedExamples:
        """Texts behind their prompts as tokens, ``max_length`` of them at most."""
        is_query = [row in queries for row in range(len(examples))]
        length = min(self.query_length, max_length)
        by_kind = {
            kind: iter(_encoded(tokenizer, examples, [kind == own for own in is_query], longest))
            for kind, longest in ((True, length), (False, max_length))
        }
        filling = None if self.filling is None else tokenizer.token_to_id(self.filling)
        skipped = {tokenizer.token_to_id(word) for word in self.skipped_words}
        ids, type_ids, attended, compared = [], [], [], []
        for kind in is_query:
            own_ids, own_types = next(by_kind[kind])
            added = length - len(own_ids) if kind and filling is not None else 0
            ids.append([*own_ids, *[filling or 0] * added])
            type_ids.append([*own_types, *[0] * added])
            attended.append(len(ids[-1]) if self.is_filling_attended else len(own_ids))
            compared.append([place for place, token in enumerate(ids[-1]) if kind or token not in skipped])
        return EncodedExamples(ids, type_ids, attended=attended, compared=compared)


def _encoded(
    tokenizer: Tokenizer, examples: Sequence[Example], is_chosen: Sequence[bool], longest: int
) -> list[tuple[list[int], list[int]]]:
    """Token and type ids of the chosen ones."""
    tokenizer.enable_truncation(longest)
    texts = [example.text for example, chosen in zip(examples, is_chosen, strict=True) if chosen]
    return [(encoding.ids, encoding.type_ids) for encoding in tokenizer.encode_batch(texts)]
