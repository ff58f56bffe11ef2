"""The folder that a user deploys."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.weights import SupernetFolder
from nas.files import write_json
from nas.space import Subnet

FORMAT = 1
RECORD_FILE = "ortnas.json"
SAMPLE_FILE = "sample.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


class PackageError(ValueError):
    """A folder that is no usable package."""


@dataclass(frozen=True)
class Sample:
    """Texts bundled with a package and what its outputs are compared with on them.

    ``reference`` holds label ids, or the teacher's unit embeddings; ``score`` is the package's own.
    """

    metric: str
    texts: list[str]
    pairs: list[str | None]
    reference: list[Any]
    score: float


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
    (staging / "model.onnx").write_bytes(content.model)
    for name in _TOKENIZER_FILES:
        if (content.supernet.path / name).is_file():
            shutil.copyfile(content.supernet.path / name, staging / name)
    shutil.copyfile(Path(__file__).with_name("predict.py"), staging / "predict.py")
    write_json(staging / "config.json", _transformers_config(content))
    write_json(staging / SAMPLE_FILE, vars(content.sample))
    (staging / "README.md").write_text(_model_card(content), encoding="utf-8")
    record = {
        "format": FORMAT,
        "name": content.name,
        "subnet_key": content.subnet.key,
        "subnet": content.subnet.to_json(),
        "head": content.supernet.dimensions.head,
        "labels": list(content.supernet.labels),
        "max_length": content.max_length,
        **content.record,
        "checksums": {path.name: checksum(path) for path in sorted(staging.iterdir())},
    }
    write_json(staging / RECORD_FILE, record)
    if folder.exists():
        shutil.rmtree(folder)
    staging.rename(folder)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _transformers_config(content: PackageContent) -> dict[str, Any]:
    dimensions, subnet = content.supernet.dimensions, content.subnet
    config: dict[str, Any] = {
        "model_type": "bert",
        "architectures": ["BertModel" if dimensions.head == "embedding" else "BertForSequenceClassification"],
        "vocab_size": dimensions.vocab_size,
        "hidden_size": subnet.hidden_size,
        "num_hidden_layers": len(subnet.layers),
        "num_attention_heads": max(layer.num_heads for layer in subnet.layers),
        "intermediate_size": max(layer.ffn_size for layer in subnet.layers),
        "max_position_embeddings": dimensions.max_positions,
        "type_vocab_size": dimensions.token_types,
        "layer_norm_eps": dimensions.layer_norm_epsilon,
        "hidden_act": {"gelu_tanh": "gelu_new"}.get(dimensions.activation, dimensions.activation),
    }
    if content.supernet.labels:
        config["id2label"] = dict(enumerate(content.supernet.labels))
        config["label2id"] = {label: index for index, label in enumerate(content.supernet.labels)}
    return config


def _model_card(content: PackageContent) -> str:
    record, dimensions = content.record, content.supernet.dimensions
    latency, target = record["latency"], record["target"]
    score = record["report"]
    output = (
        f"`sentence_embedding`, float32 `[batch, {dimensions.embedding_size}]`, of unit length"
        if dimensions.head == "embedding"
        else f"`logits`, float32 `[batch, {dimensions.num_labels}]`, in the order {', '.join(content.supernet.labels)}"
    )
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in score.items())
    return f"""# {content.name}

{record["precision"].upper()} ONNX encoder, cut from `{record["checkpoint"]}` by ortnas for a latency budget of
{record["budget_ms"]:.2f} ms. The weights derive from that checkpoint: its licence applies.

* architecture: {content.subnet.describe()}
* latency: {latency["measured_ms"]:.2f} ± {latency["spread_ms"]:.2f} ms (median and half the interquartile range;
  predicted {latency["predicted_ms"]:.2f} ms) on {target["fingerprint"]["cpu"]},
  {target["setup"]["threads"]} thread(s), batch {target["workload"]["batch"]} × {target["workload"]["sequence"]} tokens,
  ONNX Runtime {target["fingerprint"]["onnxruntime"]}
* quantization recipe: {record["recipe"]["name"]}

| report split ({record["report_size"]} texts, not used for any choice) | |
|---|---|
{figures}

## Use

```python
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
```

Inputs are int64 `[batch, sequence]`: `input_ids`, `attention_mask` (1 for tokens, 0 for padding), `token_type_ids`
(0, or 1 for the second text of a pair); sequences of at most {content.max_length} tokens. The output is {output}.
`predict.py` holds the whole path from text to output with onnxruntime and tokenizers alone.

`ortnas verify .` checks this folder on another machine.

"""


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
    return record
