"""The folder that a user deploys."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from export.graph import input_names
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
    (staging / "model.onnx").write_bytes(content.model)
    for name in _TOKENIZER_FILES:
        if (content.supernet.path / name).is_file():
            shutil.copyfile(content.supernet.path / name, staging / name)
    shutil.copyfile(Path(__file__).with_name("predict.py"), staging / "predict.py")
    config = checkpoint_config(content.supernet.dimensions, content.subnet, content.supernet.labels)
    write_json(staging / "config.json", config)
    write_json(staging / SAMPLE_FILE, asdict(content.sample))
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
        "embedding": f"`sentence_embedding`, float32 `[batch, {dimensions.embedding_size}]`, of unit length",
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
