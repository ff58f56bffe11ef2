"""Texts to model inputs, with the tokenizer of a supernet folder: one way for training, scoring and packages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ortnas.nas.failures import OrtnasError
from ortnas.nas.wording import said

if TYPE_CHECKING:
    from tokenizers import Tokenizer
Feeds = dict[str, npt.NDArray[np.int64]]
TOKENIZER_FILE = "tokenizer.json"
# The label of a token that no loss and no metric looks at, as in torch's cross entropy.
IGNORED = -100
# Consecutive windows over a long context share this part of it, as in BERT's SQuAD code (128 of 384 tokens).
WINDOW_OVERLAP = 1 / 3


class TokenizerError(OrtnasError):
    """A tokenizer that is missing or does not belong to the model."""


@dataclass(frozen=True)
class Example:
    """One input with its target.

    Token classification has ``words`` with a label id each in ``tags`` (and ``text`` empty). A span has the question
    as ``text``, the context as ``pair`` and ``answers`` as (first character in the context, text): none where the
    context does not hold one, None where the example is no span. Classification and regression have ``label``: an id,
    or a number. Multi-label classification has ``classes``: ids in order, none where no label applies, None elsewhere.
    Pairs of a query and a passage have the passage's grade as ``label``, NaN where nobody says, and the query's number
    in ``group``. Other fields are empty.
    """

    text: str
    pair: str | None = None
    label: int | float | None = None
    words: tuple[str, ...] = ()
    tags: tuple[int, ...] = ()
    answers: tuple[tuple[int, str], ...] | None = None
    classes: tuple[int, ...] | None = None
    group: int | None = None

    @property
    def has_target(self) -> bool:
        """Whether somebody said what is right."""
        return self.label is not None or self.classes is not None or self.answers is not None or bool(self.tags)

    @property
    def is_unanswerable(self) -> bool:
        """Whether it is a question that its context does not answer."""
        return self.answers == ()

    def to_json(self) -> dict[str, Any]:
        """Without the fields that are empty; answers of a span, and classes, are there though there be none."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        always = ("text", "answers", "classes")
        return {name: value for name, value in values.items() if value is not None and (name in always or value != ())}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Example:
        """Raises TypeError for unknown fields."""
        values = dict(document)
        for name in ("words", "tags", "classes"):
            if name in values:
                values[name] = tuple(values[name])
        if "answers" in values:
            values["answers"] = tuple((int(start), str(text)) for start, text in values["answers"])
        return cls(**values)


class Window(NamedTuple):
    """The piece of a long context that one row of inputs holds: the example's number and, per token, the characters
    of the context that it stands for; None for tokens outside the context."""

    example: int
    characters: list[tuple[int, int] | None]


@dataclass(frozen=True)
class EncodedExamples:
    """Token ids of many inputs, each of its own length.

    ``labels`` holds, per row: a class id, a list of the ids that apply, a number, a query's number and a grade, one id
    per token (IGNORED where there is none) or the first and last token of an answer (0, 0 where the window lacks it, or
    there is none). ``windows`` is there where rows are pieces of contexts, ``words`` where words have labels: per row
    the numbers of the words that its labels belong to, in order. Words that were cut off are not among them. Where
    texts are compared token by token, ``attended`` holds how many of a row's first tokens attention looks at, and
    ``compared`` the places of those whose outputs count; without them all do. ``labelled``: so many first rows have
    labels that somebody gave, the others something in their place; None where all have, or none.
    """

    ids: Sequence[Sequence[int]]
    type_ids: Sequence[Sequence[int]]
    labels: Sequence[Any] | None = None
    windows: Sequence[Window] | None = None
    words: Sequence[Sequence[int]] | None = None
    attended: Sequence[int] | None = None
    compared: Sequence[Sequence[int]] | None = None
    labelled: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.array([len(row) for row in self.ids], np.int64)

    def feeds(self, rows: Sequence[int]) -> Feeds:
        """The chosen rows as int64 arrays [batch, sequence], padded to the longest of them."""
        length = max(len(self.ids[row]) for row in rows)
        feeds = {
            name: np.zeros((len(rows), length), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        for position, row in enumerate(rows):
            used = len(self.ids[row])
            feeds["input_ids"][position, :used] = self.ids[row]
            feeds["attention_mask"][position, : used if self.attended is None else self.attended[row]] = 1
            feeds["token_type_ids"][position, :used] = self.type_ids[row]
        return feeds

    def label_array(self, rows: Sequence[int]) -> npt.NDArray[Any] | None:
        """Labels of the chosen rows: int64 or float32 [batch] or [batch, 2], or lists that are filled up with IGNORED,
        int64 [batch, longest]."""
        if self.labels is None:
            return None
        chosen = [self.labels[row] for row in rows]
        if isinstance(chosen[0], float) or (isinstance(chosen[0], tuple) and isinstance(chosen[0][1], float)):
            return np.array(chosen, np.float32)
        if isinstance(chosen[0], list):
            padded = np.full((len(rows), max(map(len, chosen))), IGNORED, np.int64)
            for position, labels in enumerate(chosen):
                padded[position, : len(labels)] = labels
            return padded
        return np.array(chosen, np.int64)

    def labelled_array(self, rows: Sequence[int]) -> npt.NDArray[np.bool_] | None:
        """Which of the chosen rows have labels that somebody gave, boolean [batch]; None where all have, or none."""
        return None if self.labelled is None else np.array(rows) < self.labelled

    @property
    def only_labelled(self) -> EncodedExamples:
        """Without the rows that lack labels, where others have some."""
        return self if self.labelled is None else self.first(self.labelled)

    def first(self, rows: int) -> EncodedExamples:
        """So many first rows."""
        columns = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "labelled"}
        kept: dict[str, Any] = {name: None if column is None else column[:rows] for name, column in columns.items()}
        return EncodedExamples(
            **kept, labelled=None if self.labelled is None or rows <= self.labelled else self.labelled
        )

    def batches(self, size: int) -> Iterator[tuple[list[int], Feeds]]:
        """All rows in batches of similar length, with the rows that each batch holds."""
        order = np.argsort(self.lengths, kind="stable").tolist()
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, self.feeds(rows)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, without the truncation and padding that its file may carry.

    Raises TokenizerError where there is none.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise TokenizerError(f"{folder} holds no {TOKENIZER_FILE}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers package raises plain Exception
        raise TokenizerError(f"{path} cannot be read: {said(error)}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Tokenizer, examples: Sequence[Example], max_length: int) -> EncodedExamples:
    """Token ids of at most max_length with the special tokens kept: longer texts are cut, longer contexts of a span
    are covered by overlapping windows. Examples without targets come behind those that have one. Raises TokenizerError
    where max_length leaves a context no room."""
    if examples and examples[0].words:
        return _encode_words(tokenizer, examples, max_length)
    if examples and examples[0].answers is not None:
        return _encode_windows(tokenizer, examples, max_length)
    tokenizer.enable_truncation(max_length)
    inputs = [example.text if example.pair is None else (example.text, example.pair) for example in examples]
    encodings = tokenizer.encode_batch(inputs)
    labelled = _count_labelled(examples)
    labels = [_label(example) for example in examples[:labelled]]
    if labelled is not None:
        labels += [_stand_in(labels[0])] * (len(examples) - labelled)
    return EncodedExamples(
        [encoding.ids for encoding in encodings],
        [encoding.type_ids for encoding in encodings],
        None if any(label is None for label in labels) else labels,
        labelled=labelled,
    )


def _count_labelled(examples: Sequence[Example]) -> int | None:
    """The number of those that have targets; None where all have, or none."""
    count = sum(example.has_target for example in examples)
    return count if 0 < count < len(examples) else None


def _stand_in(label: Any) -> Any:
    """In place of a label of that kind, where nobody gave one; of sets one that ``labelled`` alone tells from none."""
    if isinstance(label, list):
        return []
    return math.nan if isinstance(label, float) else IGNORED


def _label(example: Example) -> Any:
    if example.group is not None and example.label is not None:
        return float(example.group), float(example.label)
    return example.label if example.classes is None else list(example.classes)


def with_prompt(examples: Sequence[Example], prompt: str) -> Sequence[Example]:
    """The examples with a prompt before their texts."""
    return [replace(example, text=prompt + example.text) for example in examples] if prompt else examples


def _encode_words(tokenizer: Tokenizer, examples: Sequence[Example], max_length: int) -> EncodedExamples:
    """The first token of a word carries the word's label (Devlin et al. 2019, section 5.3)."""
    if getattr(tokenizer.pre_tokenizer, "add_prefix_space", True) is False:
        # Byte-level tokens tell words apart by the space before them, which a list of words has lost.
        tokenizer.pre_tokenizer.add_prefix_space = True
    tokenizer.enable_truncation(max_length)
    encodings = tokenizer.encode_batch([list(example.words) for example in examples], is_pretokenized=True)
    word_ids = [encoding.word_ids for encoding in encodings]
    tags = [example.tags or (IGNORED,) * len(example.words) for example in examples]
    labels = [_token_labels(*row) for row in zip(word_ids, tags, strict=True)]
    words = [[word for word in dict.fromkeys(row) if word is not None] for row in word_ids]
    return EncodedExamples(
        [item.ids for item in encodings],
        [item.type_ids for item in encodings],
        labels,
        words=words,
        labelled=_count_labelled(examples),
    )


def _token_labels(word_ids: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    labels, previous = [], None
    for word in word_ids:
        labels.append(IGNORED if word is None or word == previous else tags[word])
        previous = word
    return labels


def _encode_windows(tokenizer: Tokenizer, examples: Sequence[Example], max_length: int) -> EncodedExamples:
    # A question that leaves a context no room is cut to half the length.
    longest_question = max_length // 2
    tokenizer.enable_truncation(longest_question)
    questions = [_cut_question(tokenizer, example.text) for example in examples]
    room = max_length - longest_question - tokenizer.num_special_tokens_to_add(True)
    if room < 1:
        raise TokenizerError(f"max_length = {max_length} leaves contexts no room beside their questions")
    overlap = min(int(max_length * WINDOW_OVERLAP), room - 1)
    tokenizer.enable_truncation(max_length, stride=overlap, strategy="only_second")
    ids, type_ids, labels, windows = [], [], [], list[Window]()
    labelled = _count_labelled(examples)
    for number, (question, example) in enumerate(zip(questions, examples, strict=True)):
        whole = tokenizer.encode(question, example.pair or "")
        for encoding in (whole, *whole.overflowing):
            characters = [
                offset if part == 1 else None
                for offset, part in zip(encoding.offsets, encoding.sequence_ids, strict=True)
            ]
            ids.append(encoding.ids)
            type_ids.append(encoding.type_ids)
            windows.append(Window(number, characters))
            labels.append(_answer_tokens(characters, *example.answers[0]) if example.answers else (0, 0))
    if labelled is not None:
        labelled = sum(window.example < labelled for window in windows)
    return EncodedExamples(ids, type_ids, labels, windows, labelled=labelled)


def _cut_question(tokenizer: Tokenizer, question: str) -> str:
    """The question as far as the tokenizer's truncation lets it be read."""
    encoding = tokenizer.encode(question, add_special_tokens=False)
    return question[: encoding.offsets[-1][1]] if encoding.overflowing else question


def _answer_tokens(characters: Sequence[tuple[int, int] | None], start: int, text: str) -> tuple[int, int]:
    """First and last token of an answer; (0, 0) where the window does not hold all of it."""
    end = start + len(text)
    inside = [
        token for token, piece in enumerate(characters) if piece is not None and piece[0] < end and piece[1] > start
    ]
    if not inside:
        return 0, 0
    first, last = characters[inside[0]], characters[inside[-1]]
    whole = first is not None and last is not None and first[0] <= start and last[1] >= end
    return (inside[0], inside[-1]) if whole else (0, 0)


def take(encoded: EncodedExamples, count: int) -> EncodedExamples:
    """The first inputs, or all windows of the first contexts."""
    if encoded.windows is not None:
        return encoded.first(sum(window.example < count for window in encoded.windows))
    return encoded.first(count)
