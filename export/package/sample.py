"""The inputs that are bundled with a package, and what its outputs and its tokenizer are compared with on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ortnas.export.package.record import PackageError
from ortnas.export.part import Part
from ortnas.nas.files import digest, parse_json, write_json
from ortnas.nas.text import EncodedExamples, Example, encode
from ortnas.nas.wording import said

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE_FILE = "sample.json"
# What tokenizers get wrong first: nothing, blanks, composed and decomposed accents, scripts without spaces, control
# characters, words without end.
ODD_TEXTS = (
    "",
    " \t\u3000\n",
    "na\u00efve nai\u0308ve \ufb01n \u0130stanbul \u1e9e",
    "\u6771\u4eac\u30bf\u30ef\u30fc \u0e20\u0e32\u0e29\u0e32 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\U0001f469\u200d\U0001f4bb\u2764\ufe0f \u0000\ufffd\u00ad",
    "[MASK] <mask> [CLS] </s> <b>&amp;</b> `x|y`",
    "a" * 500,
    "word, " * 2000,
)


@dataclass(frozen=True)
class Sample:
    """``examples`` have their labels; where a corpus has no texts, ``tokens`` holds (ids, labels) per row instead.
    ``teacher`` holds the teacher's embeddings where there are no labels. ``score`` is the package's own.
    """

    metric: str
    score: float
    examples: Sequence[Example]
    tokens: Sequence[tuple[Sequence[int], Sequence[int]]] = ()
    teacher: Sequence[Sequence[float]] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "score": self.score,
            "examples": [example.to_json() for example in self.examples],
            "tokens": [[list(ids), list(labels)] for ids, labels in self.tokens],
            "teacher": self.teacher,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Sample:
        """Raises ValueError, KeyError, TypeError or AttributeError."""
        metric, score = document["metric"], document["score"]
        if not isinstance(metric, str) or type(score) not in (int, float):
            raise ValueError("its metric is no name, or its score no number")
        if not isinstance(document["examples"], list) or not isinstance(document["tokens"], list):
            raise ValueError("its examples or tokens are no list")
        examples = [Example.from_json(example) for example in document["examples"]]
        tokens = [(ids, labels) for ids, labels in document["tokens"]]
        return cls(metric, score, examples, tokens, document["teacher"])

    def part(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        labels: Sequence[str],
        null_threshold: float | None = None,
        label_thresholds: tuple[float, ...] | None = None,
    ) -> Part:
        """The inputs as a model takes them; ``labels`` are the names of its classes."""
        if self.examples:
            encoded = encode(tokenizer, self.examples, max_length)
        else:
            ids, targets = ([entry[column] for entry in self.tokens] for column in (0, 1))
            encoded = EncodedExamples(ids, [[0] * len(row) for row in ids], targets)
        teacher = None if self.teacher is None else np.asarray(self.teacher, np.float32)
        return Part(encoded, self.examples, tuple(labels), teacher, null_threshold, label_thresholds)


def write_sample(folder: Path, sample: Sample) -> None:
    write_json(folder / SAMPLE_FILE, sample.to_json())


def read_sample(folder: Path) -> Sample:
    """The bundled sample of a package. Raises PackageError where it cannot be read."""
    try:
        return Sample.from_json(parse_json((folder / SAMPLE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise PackageError(f"{folder / SAMPLE_FILE} cannot be read: {said(error)}") from error


def token_digest(tokenizer: Tokenizer, sample: Sample, max_length: int) -> str:
    """Names the ids that a tokenizer makes of the sample and of odd texts: another release of it may make others."""
    odd = encode(tokenizer, [Example(text) for text in ODD_TEXTS], max_length)
    usual = encode(tokenizer, sample.examples, max_length) if sample.examples else odd
    return digest([list(row) for row in (*odd.ids, *usual.ids)])
