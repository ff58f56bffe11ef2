"""The folder that a user deploys."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph import input_names
from export.heads import ALIAS
from export.weights import SupernetFolder
from nas.families import checkpoint_config
from nas.files import write_json
from nas.layout import Dimensions
from nas.space import Subnet

FORMAT = 4
RECORD_FILE = "ortnas.json"
SAMPLE_FILE = "sample.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
)


class PackageError(ValueError):
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
    """What goes into a package beside the tokenizer."""

    name: str
    model: bytes
    supernet: SupernetFolder
    subnet: Subnet
    max_length: int
    sample: Sample
    record: Mapping[str, Any]


def write_package(folder: Path, content: PackageContent) -> None:
    """Writes the package beside its final place and moves it there whole; an older one is replaced."""
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
    (staging / "model.onnx").write_bytes(content.model if dimensions.head != "embedding" else with_alias(content.model))
    _copy_tokenizer(content.supernet.path, staging)
    shutil.copyfile(Path(__file__).with_name("predict.py"), staging / "predict.py")
    write_json(staging / "config.json", checkpoint_config(dimensions, content.subnet, content.supernet.labels))
    if dimensions.head == "embedding":
        _write_sentence_transformer(staging, dimensions.embedding_size, content.max_length)
    write_json(staging / SAMPLE_FILE, asdict(content.sample))
    (staging / "README.md").write_text(_model_card(content), encoding="utf-8")
    record = {
        "format": FORMAT,
        "name": content.name,
        "subnet_key": content.subnet.key,
        "subnet": content.subnet.to_json(),
        "head": dimensions.head,
        "labels": list(content.supernet.labels),
        "max_length": content.max_length,
        **content.record,
        "checksums": {
            path.relative_to(staging).as_posix(): checksum(path)
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        },
    }
    write_json(staging / RECORD_FILE, record)


def with_alias(model: bytes) -> bytes:
    """An embedding model with its output a second time, as ``last_hidden_state [batch, 1, embedding_size]``.

    optimum's feature extraction, and with it sentence-transformers, knows outputs by that name only.
    """
    proto = onnx.ModelProto.FromString(model)
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
    settings_file = staging / "tokenizer_config.json"
    if not settings_file.is_file():
        return
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        # What transformers 5 calls it; loaders that hold on to transformers 4 only know the name that both understand.
        write_json(settings_file, settings | {"tokenizer_class": "PreTrainedTokenizerFast"})


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _describe_inputs(dimensions: Dimensions) -> str:
    meanings = {
        "input_ids": "`input_ids`",
        "attention_mask": "`attention_mask` (1 for tokens, 0 for padding)",
        "token_type_ids": "`token_type_ids` (0, or 1 for the second text of a pair)",
    }
    return ", ".join(meanings[name] for name in input_names(dimensions))


def _describe_output(dimensions: Dimensions, labels: Sequence[str]) -> str:
    order = ", ".join(labels)
    return {
        "embedding": f"`sentence_embedding`, float32 `[batch, {dimensions.embedding_size}]`, of unit length, and once "
        f"more as `last_hidden_state`, float32 `[batch, 1, {dimensions.embedding_size}]`",
        "classification": f"`logits`, float32 `[batch, {dimensions.num_labels}]`, in the order {order}",
        "regression": "`logits`, float32 `[batch, 1]`, the number itself",
        "token-classification": f"`logits`, float32 `[batch, sequence, {dimensions.num_labels}]`, in the order {order} "
        "(a word has the label of its first token)",
        "span": "`start_logits` and `end_logits`, float32 `[batch, sequence]`, of the answer's first and last token "
        "for a question and its context",
        "masked-lm": f"`logits`, float32 `[batch, sequence, {dimensions.vocab_size}]`, over the vocabulary",
    }[dimensions.head]


def _model_card(content: PackageContent) -> str:
    record, dimensions = content.record, content.supernet.dimensions
    latency, target = record["latency"], record["target"]
    score = record["report"]
    requests = ", ".join(f"{kind['batch']} × {kind['sequence']} tokens" for kind in target["workloads"])
    budget = "" if record["budget_ms"] is None else f" for a latency budget of {record['budget_ms']:.2f} ms"
    predicted = "" if latency["predicted_ms"] is None else f"; predicted {latency['predicted_ms']:.2f} ms"
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in score.items())
    return f"""# {content.name}

{record["precision"].upper()} ONNX encoder, cut from `{record["checkpoint"]}` by ortnas{budget}.
The weights derive from that checkpoint: its licence applies.

* architecture: {content.subnet.describe()}
* latency: {latency["measured_ms"]:.2f} ± {latency["spread_ms"]:.2f} ms (median and half the interquartile
  range{predicted}) on {target["fingerprint"]["cpu"]},
  {target["setup"]["threads"]} thread(s), batch {requests},
  ONNX Runtime {target["fingerprint"]["onnxruntime"]}
* quantization recipe: {record["recipe"]["name"]}; {_describe_quantization(record)}

| report split ({record["report_size"]} texts, not used for any choice) | |
|---|---|
{figures}

## Use

```python
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
```

Inputs are int64 `[batch, sequence]`: {_describe_inputs(dimensions)}; sequences of at most {content.max_length} tokens.
The output is {_describe_output(dimensions, content.supernet.labels)}.
`predict.py` holds the whole path from text to output with onnxruntime and tokenizers alone.

`ortnas verify .` checks this folder on another machine.

"""


def _describe_quantization(record: Mapping[str, Any]) -> str:
    if record["precision"] == "fp32":
        return "not applied, all weights are float32"
    share, drift = record["coverage"]["weight_integer_share"], record["drift"]
    return (
        f"{share:.1%} of the weight products' multiply-adds run in\n  integer kernels; outputs differ from the float "
        f"model's by {drift['mean']:.2g} on average and {drift['largest']:.2g} at most (cosine {drift['cosine']:.4f})"
    )


def read_record(folder: Path) -> dict[str, Any]:
    """Raises PackageError where the folder is no package, or one of a newer format."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        newer = record["format"] > FORMAT
    except FileNotFoundError:
        raise PackageError(f"{folder} is not a package: it holds no {RECORD_FILE}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{folder / RECORD_FILE} cannot be read: {error!r}") from error
    if newer:
        raise PackageError(f"{folder}: package format {record['format']} is newer than this release; update ortnas")
    if record["format"] < FORMAT:
        raise PackageError(f"{folder}: package format {record['format']} is of an older release; export it again")
    return record


def read_sample(folder: Path) -> Sample:
    """The bundled sample of a package. Raises PackageError where it cannot be read."""
    try:
        return Sample(**json.loads((folder / SAMPLE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PackageError(f"{folder / SAMPLE_FILE} cannot be read: {error!r}") from error
