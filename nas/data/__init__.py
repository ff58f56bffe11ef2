"""Reading texts and tasks, and cutting them into disjoint parts."""

from ortnas.nas.data.corpus import PackedCorpus, prepare_corpus, read_corpus
from ortnas.nas.data.docstrings import PYTHON_DOCSTRINGS, docstring_pairs, docstring_sentences
from ortnas.nas.data.guess import Asked, Guess, guess_source
from ortnas.nas.data.identity import source_identity
from ortnas.nas.data.judged_pairs import NO_PAIRS
from ortnas.nas.data.mixture import Mixture
from ortnas.nas.data.packages import PYTHON_PACKAGES, package_sentences
from ortnas.nas.data.sentences import read_sentences
from ortnas.nas.data.several_sources import mix_sources
from ortnas.nas.data.source import DataSource
from ortnas.nas.data.splits import Sizes, Splits, make_splits
from ortnas.nas.data.storage import read_splits, write_splits
from ortnas.nas.data.tasks import TASKS, Task, find_task, serves
from ortnas.nas.data.unlabelled_texts import LABELS_THAT_MAY_LACK, add_unlabelled
from ortnas.nas.failures import DataError

__all__ = [
    "LABELS_THAT_MAY_LACK",
    "NO_PAIRS",
    "PYTHON_DOCSTRINGS",
    "PYTHON_PACKAGES",
    "TASKS",
    "Asked",
    "DataError",
    "DataSource",
    "Guess",
    "Mixture",
    "PackedCorpus",
    "Sizes",
    "Splits",
    "Task",
    "add_unlabelled",
    "docstring_pairs",
    "docstring_sentences",
    "find_task",
    "guess_source",
    "make_splits",
    "mix_sources",
    "package_sentences",
    "prepare_corpus",
    "read_corpus",
    "read_sentences",
    "read_splits",
    "serves",
    "source_identity",
    "write_splits",
]
