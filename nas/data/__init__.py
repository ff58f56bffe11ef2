"""Reading texts and tasks, and cutting them into disjoint parts."""

from ortnas.nas.data.corpus import PackedCorpus, prepare_corpus, read_corpus
from ortnas.nas.data.guess import Asked, Guess, guess_source
from ortnas.nas.data.identity import source_identity
from ortnas.nas.data.judged_pairs import NO_PAIRS
from ortnas.nas.data.sentences import PYTHON_DOCSTRINGS, docstring_sentences, read_sentences
from ortnas.nas.data.source import DataSource
from ortnas.nas.data.splits import Sizes, Splits, make_splits
from ortnas.nas.data.storage import read_splits, write_splits
from ortnas.nas.data.tasks import TASKS, Task, find_task, serves
from ortnas.nas.failures import DataError

__all__ = [
    "NO_PAIRS",
    "PYTHON_DOCSTRINGS",
    "TASKS",
    "Asked",
    "DataError",
    "DataSource",
    "Guess",
    "PackedCorpus",
    "Sizes",
    "Splits",
    "Task",
    "docstring_sentences",
    "find_task",
    "guess_source",
    "make_splits",
    "prepare_corpus",
    "read_corpus",
    "read_sentences",
    "read_splits",
    "serves",
    "source_identity",
    "write_splits",
]
