"""The data of a run: prepared once, read back by every stage, encoded by the checkpoint's tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.data import (
    NO_PAIRS,
    DataError,
    DataSource,
    Mixture,
    PackedCorpus,
    Sizes,
    Splits,
    add_unlabelled,
    make_splits,
    mix_sources,
    prepare_corpus,
    read_corpus,
    read_splits,
    source_identity,
    write_splits,
)
from ortnas.nas.data.late_texts import LateTexts
from ortnas.nas.files import digest, write_json
from ortnas.nas.judgements import Judgements
from ortnas.nas.run.configuration import Configuration, Data
from ortnas.nas.text import EncodedExamples, Example, encode, load_tokenizer, with_prompt

if TYPE_CHECKING:
    from ortnas.nas.data.masking import Masking
    from ortnas.nas.training.batches import EncodedSource

Report = Callable[[int, int, str], None]
# Parts of a corpus that are masked once, so that every subnet is scored on the same tokens.
_MASKED_PARTS = ("calibration", "search", "report")


@dataclass(frozen=True)
class TaskData:
    """Disjoint parts, as texts or as packed sequences of a corpus. ``prompt`` comes before every text; ``late`` says
    how judged pairs are read instead, where queries are read otherwise than documents."""

    content: Splits | PackedCorpus
    tokenizer_folder: Path
    max_length: int
    seed: int
    prompt: str = ""
    late: LateTexts | None = None
    _encoded: dict[str, EncodedExamples] = field(default_factory=dict, init=False, repr=False)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.content.labels if isinstance(self.content, Splits) else ()

    @property
    def mixture(self) -> Mixture | None:
        """The sources of training and their shares, where there are several."""
        return self.content.mixture if isinstance(self.content, Splits) else None

    @cached_property
    def digest(self) -> str:
        """Names the parts, not how they are encoded."""
        return self.content.digest

    @property
    def judgements(self) -> dict[str, Judgements]:
        """By the parts that hold the texts of judged pairs; none where there are no such pairs."""
        return self.content.judgements if isinstance(self.content, Splits) else {}

    @property
    def apart(self) -> str:
        """What is said of texts that parts have in common."""
        if self.groups("training") is not None:
            return "no query is in two parts, passages may be"
        training = self.content.training if isinstance(self.content, Splits) else []
        if training and training[0].pair is not None and training[0].answers is None:
            return "no pair is in two parts"
        shares = any(not judgements.are_scored for judgements in self.judgements.values())
        return f"no text is in two parts{', except documents to look among' if shares else ''}"

    @property
    def report_parts(self) -> list[str]:
        """``report``, where a task has several dev sets the others, and the judged pairs that go with it."""
        if isinstance(self.content, PackedCorpus):
            return ["report"]
        return [name for name in self.content.parts if name.startswith("report")]

    @property
    def labelled(self) -> int | None:
        """How many texts to train have labels, where further sources lack them; None elsewhere."""
        if self.mixture is None or self.mixture.report_parts:
            return None
        return self.mixture.counts[0]

    @cached_property
    def counts(self) -> dict[str, int]:
        if isinstance(self.content, Splits):
            return {name: len(examples) for name, examples in self.content.parts.items()}
        return {name: len(getattr(self.content, name)) for name in ("training", *_MASKED_PARTS)}

    def examples(self, part: str) -> Sequence[Example]:
        """The texts of a part as they are encoded; empty for a packed corpus."""
        if not isinstance(self.content, Splits):
            return ()
        texts = self.content.parts[part]
        if self.late is not None and part in self.judgements:
            return self.late.with_prompts(texts, self._queries(part))
        return with_prompt(texts, self.prompt)

    def _queries(self, part: str) -> set[int]:
        return set(self.judgements[part].queries)

    def groups(self, part: str) -> list[int] | None:
        """The number of each text's group, where texts are compared within groups: the passages of a query."""
        numbers = [example.group for example in self.examples(part)]
        return None if None in numbers or not numbers else [int(number or 0) for number in numbers]

    def encoded(self, part: str) -> EncodedSource:
        """A part as token ids with labels; of a corpus, parts other than training are masked."""
        if isinstance(self.content, PackedCorpus) and part == "training":
            return self.content.training
        return self.held_out(part)

    def held_out(self, part: str) -> EncodedExamples:
        """As ``encoded``, in memory."""
        if part not in self._encoded:
            self._encoded[part] = self._encode(part) if isinstance(self.content, Splits) else self._masked(part)
        return self._encoded[part]

    def _encode(self, part: str) -> EncodedExamples:
        tokenizer = load_tokenizer(self.tokenizer_folder)
        if self.late is not None and part in self.judgements:
            return self.late.encode(tokenizer, self.examples(part), self._queries(part), self.max_length)
        return encode(tokenizer, self.examples(part), self.max_length)

    @property
    def to_fine_tune(self) -> EncodedSource:
        """The training part without texts that lack labels: what a teacher is made of."""
        training = self.encoded("training")
        return training.only_labelled if isinstance(training, EncodedExamples) else training

    @cached_property
    def masking(self) -> Masking | None:
        """How a corpus is masked; None for tasks."""
        if isinstance(self.content, Splits):
            return None
        from ortnas.nas.data.masking import masking_by

        return masking_by(load_tokenizer(self.tokenizer_folder))

    def _masked(self, part: str) -> EncodedExamples:
        assert isinstance(self.content, PackedCorpus)
        assert self.masking is not None
        plain: EncodedExamples = getattr(self.content, part)
        return self.masking.masked(plain, np.random.default_rng([self.seed, _MASKED_PARTS.index(part), 5]))


def prepare(
    configuration: Configuration,
    folder: Path,
    tokenizer: Callable[[], Path],
    report: Report,
    max_length: Callable[[], int],
    prompt: Callable[[], str] = str,
    late: Callable[[], LateTexts | None] = lambda: None,
) -> TaskData:
    """Reads what an earlier call prepared in ``folder`` from the same source, or prepares it. Raises DataError.

    ``tokenizer()`` is the folder of the checkpoint's tokenizer, ``max_length()`` the most tokens that a text has,
    ``prompt()`` what comes before every text, and ``late()`` is that of ``TaskData``.
    """
    data, head, seed = configuration.data, configuration.head, configuration.seed
    is_corpus = HEADS[head].fills_masks
    marker = folder / "inputs.json"
    asked = digest(data.model_dump(exclude={"max_length", "label_names"}), head, seed)
    if is_corpus:
        asked = digest(asked, max_length(), (tokenizer() / "tokenizer.json").read_text(encoding="utf-8"))
    recorded = json.loads(marker.read_text()) if marker.is_file() else {}
    try:
        inputs: dict[str, Any] = {"asked": asked, "source": [source_identity(own.source) for own in data.sources]}
        if data.pairs not in (None, NO_PAIRS):
            inputs["pairs"] = source_identity(data.pairs, "data.pairs")
    except DataError:
        if recorded.get("asked") != asked:
            raise
        inputs = recorded  # the source is gone; what was made of it is not
    content: Splits | PackedCorpus
    sizes = Sizes(data.calibration_size, data.search_size, data.report_size)
    if recorded == inputs:
        content = read_corpus(folder / "corpus") if is_corpus else read_splits(folder / "splits")
    elif is_corpus:
        content = prepare_corpus(
            data.sources[0].source,
            tokenizer(),
            folder / "corpus",
            max_length(),
            sizes,
            seed,
            lower=data.lower,
            text_field=data.text or "text",
            report=report,
        )
    else:
        content = _make_splits(data, head, sizes, seed)
        write_splits(content, folder / "splits")
    if recorded != inputs:
        write_json(marker, inputs)
    return TaskData(content, tokenizer(), max_length(), seed, prompt(), late())


def _make_splits(data: Data, head: str, sizes: Sizes, seed: int) -> Splits:
    """Files and columns by keys are the first source's; further ones have usual ones, or name their text."""
    first, *further = data.sources
    own = DataSource(
        first.source, data.task, data.train_file, data.report_file, data.text, data.pair, data.label, data.separator
    )
    others = [DataSource(weighted.source, text=weighted.text, pair=weighted.pair) for weighted in further]
    weights = [weighted.weight for weighted in data.sources]

    def splits(pairs: str | None) -> Splits:
        if further and not HEADS[head].has_labels:
            return mix_sources([own, *others], weights, head, sizes, seed, pairs)
        splits = make_splits(own, head, sizes, seed, pairs)
        return add_unlabelled(splits, [own, *others], weights, head) if further else splits

    try:
        return splits(data.pairs)
    except DataError as error:
        if data.pairs is not None or not HEADS[head].judged_metrics:
            raise
        without = splits(NO_PAIRS)  # pairs that nobody named are no reason to refuse texts
        return replace(without, notes=(*without.notes, f"there are no judged pairs, since {error}"))
