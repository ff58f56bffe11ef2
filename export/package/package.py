"""The folder that a user deploys."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ortnas.export.graph.heads import ALIAS
from ortnas.export.package.card import example_ids, model_card
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.spelling import checkpoint_config
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import digest, parse_json, write_json
from ortnas.nas.text import Example, encode, load_tokenizer
from ortnas.nas.wording import said, shown

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT = 5
RECORD_FILE = "ortnas.json"
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
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


# What has to be in a record, whoever wrote it.
_KINDS: dict[tuple[str, ...], type | tuple[type, ...]] = {
    ("head",): str,
    ("labels",): list,
    ("max_length",): int,
    ("precision",): str,
    ("checksums",): dict,
    ("token_digest",): str,
    ("target",): dict,
    ("recipe", "keep_float"): list,
    ("coverage", "threshold"): (int, float, type(None)),
    ("latency", "measured_ms"): (int, float),
    ("budget_ms",): (int, float, type(None)),
}
# As above, of entries that may be missing.
_KINDS_IF_THERE: dict[tuple[str, ...], type | tuple[type, ...]] = {("null_threshold",): (int, float, type(None))}

_MISSING = object()
_LONGEST_NAME = 200


class PackageError(OrtnasError, ValueError):
    """A folder that is no usable package."""


@dataclass(frozen=True)
class Sample:
    """Inputs bundled with a package, and what its outputs are compared with on them.

    ``examples`` are the JSON form of ``nas.text.Example``, labels included; where a corpus has no texts, ``tokens``
    holds (ids, labels) per row instead. ``teacher`` holds the teacher's unit embeddings where there are no labels.
    ``score`` is the package's own.
    """

    metric: str
    score: float
    examples: list[dict[str, Any]]
    tokens: list[list[list[int]]] = field(default_factory=list)
    teacher: list[list[float]] | None = None


@dataclass(frozen=True)
class PackageContent:
    """What goes into a package beside the tokenizer.

    ``record`` has to hold ``precision``, ``recipe`` and ``target`` (the latter two as JSON) and ``latency`` with
    ``measured_ms`` and ``spread_ms``. What else is known of the model (see ``docs/files.md``) is told by its card too.
    """

    name: str
    model: bytes
    supernet: SupernetFolder
    subnet: Subnet
    max_length: int
    sample: Sample
    record: Mapping[str, Any]


def write_package(folder: Path, content: PackageContent) -> None:
    """Writes the package beside its final place and moves it there whole; an older one is replaced.

    Raises PackageError where the record names another model as the one that was timed.
    """
    timed = content.record["latency"].get("model_digest")
    if timed is not None and timed != hashlib.sha256(content.model).hexdigest():
        raise PackageError(f"{content.name}: the model to package is not the one that was timed")
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _fill(staging, content)
    except OSError:
        # A full disk, most likely: what was written of it would be in the way of everything else.
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    staging.rename(folder)


def _fill(staging: Path, content: PackageContent) -> None:
    dimensions = content.supernet.dimensions
    facts = {
        "checkpoint": content.supernet.provenance.get("checkpoint", "unknown"),
        "budget_ms": None,
        "coverage": {"threshold": None},
        "activation": content.supernet.provenance.get("activation"),
        **content.record,
    }
    makes_embeddings = HEADS[dimensions.head].makes_embeddings
    (staging / "model.onnx").write_bytes(packaged_model(content.model, dimensions.head))
    _copy_tokenizer(content.supernet.path, staging)
    shutil.copyfile(Path(__file__).with_name("predict.py"), staging / "predict.py")
    activation = content.supernet.provenance.get("activation")
    configuration = checkpoint_config(dimensions, content.subnet, content.supernet.labels, activation)
    write_json(staging / "config.json", configuration)
    if makes_embeddings:
        _write_sentence_transformer(staging, dimensions.embedding_size, content.max_length)
    write_json(staging / SAMPLE_FILE, asdict(content.sample))
    tokenizer = load_tokenizer(staging)
    card = model_card(
        content.name,
        dimensions,
        content.subnet,
        content.supernet.labels,
        content.max_length,
        facts,
        example_ids(tokenizer, dimensions.head),
    )
    (staging / "README.md").write_text(card, encoding="utf-8")
    record = {
        "format": FORMAT,
        "ortnas": version("ortnas"),
        "name": content.name,
        "subnet_key": content.subnet.key,
        "subnet": content.subnet.to_json(),
        "head": dimensions.head,
        "labels": list(content.supernet.labels),
        "max_length": content.max_length,
        "token_digest": token_digest(tokenizer, content.sample, content.max_length),
        **facts,
        "checksums": {
            path.relative_to(staging).as_posix(): checksum(path)
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        },
    }
    write_json(staging / RECORD_FILE, record)


def packaged_model(model: bytes, head: str) -> bytes:
    """As the file of a package holds it; one that was made by this is not changed again.

    An embedding has its output a second time, as ``last_hidden_state [batch, 1, embedding_size]``: optimum's feature
    extraction, and with it sentence-transformers, knows outputs by that name only.
    """
    if not HEADS[head].makes_embeddings:
        return model
    proto = onnx.ModelProto.FromString(model)
    if any(output.name == ALIAS for output in proto.graph.output):
        return model
    (embedding,) = proto.graph.output
    batch, size = embedding.type.tensor_type.shape.dim
    axis = f"{ALIAS}/axis"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axis))
    proto.graph.node.append(helper.make_node("Unsqueeze", [embedding.name, axis], [ALIAS], name=ALIAS))
    shape = (batch.dim_param, 1, size.dim_value)
    proto.graph.output.append(helper.make_tensor_value_info(ALIAS, TensorProto.FLOAT, shape))
    content: bytes = proto.SerializeToString()
    return content


def _write_sentence_transformer(staging: Path, embedding_size: int, max_length: int) -> None:
    """What sentence-transformers reads beside the model: the one token of ``last_hidden_state`` is the embedding."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write_json(staging / "modules.json", modules)
    write_json(staging / "sentence_bert_config.json", {"max_seq_length": max_length})
    write_json(staging / "1_Pooling" / "config.json", {"word_embedding_dimension": embedding_size, **pooling})


def _copy_tokenizer(source: Path, staging: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, staging / name)


def token_digest(tokenizer: Tokenizer, sample: Sample, max_length: int) -> str:
    """Names the ids that a tokenizer makes of the sample and of odd texts: another release of it may make others."""
    examples = [Example.from_json(document) for document in sample.examples]
    odd = encode(tokenizer, [Example(text) for text in ODD_TEXTS], max_length)
    usual = encode(tokenizer, examples, max_length) if examples else odd
    return digest([list(row) for row in (*odd.ids, *usual.ids)])


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """Raises PackageError where the folder is no package, or one of another format."""
    try:
        record: Any = parse_json((folder / RECORD_FILE).read_text(encoding="utf-8"))
        found = record["format"]
        if type(found) is not int:
            raise TypeError(f"its format is {shown(found)}")
        newer, older = found > FORMAT, found < FORMAT
    except FileNotFoundError:
        raise PackageError(f"{folder} is not a package: it holds no {RECORD_FILE}") from None
    except NotADirectoryError:
        raise PackageError(f"{folder} is a file; a package is a folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{folder / RECORD_FILE} cannot be read: {said(error)}") from error
    if newer:
        raise PackageError(
            f"{folder}: package format {shown(found)} is newer than this release's {FORMAT}; update ortnas"
        )
    if older:
        raise PackageError(f"{folder}: package format {shown(found)} is of an older release; export it again")
    for keys, kind in (_KINDS | _KINDS_IF_THERE).items():
        value = record
        for key in keys:
            value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
        if not isinstance(value, kind) and not (value is _MISSING and keys in _KINDS_IF_THERE):
            raise PackageError(f"{folder / RECORD_FILE}: {'.'.join(keys)} is missing or damaged; export it again")
    if not all(map(_is_file_name, record["checksums"])) or not all(map(_is_text, record["labels"])):
        raise PackageError(f"{folder / RECORD_FILE}: checksums or labels are damaged; export it again")
    if not all(map(_is_text, record["recipe"]["keep_float"])):
        raise PackageError(f"{folder / RECORD_FILE}: recipe.keep_float is damaged; export it again")
    return dict(record)


def _is_file_name(name: str) -> bool:
    """Of a file in the package, as file systems take it."""
    parts = name.split("/")
    return name.isprintable() and len(name) <= _LONGEST_NAME and all(parts) and ".." not in parts


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def read_sample(folder: Path) -> Sample:
    """The bundled sample of a package. Raises PackageError where it cannot be read."""
    try:
        sample = Sample(**parse_json((folder / SAMPLE_FILE).read_text(encoding="utf-8")))
        if not isinstance(sample.metric, str) or type(sample.score) not in (int, float):
            raise ValueError("its metric is no name, or its score no number")
        if not isinstance(sample.examples, list) or not isinstance(sample.tokens, list):
            raise ValueError("its examples or tokens are no list")
    except (OSError, ValueError, TypeError) as error:
        raise PackageError(f"{folder / SAMPLE_FILE} cannot be read: {said(error)}") from error
    return sample
