"""The model card of a package: README.md with the front matter that the Hugging Face hub reads.

Names, labels and texts come from users: they stand in code spans or escaped, so that none of them is markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from ortnas.export.graph.encoder import input_names
from ortnas.export.graph.heads import ALIAS, output_shape
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import Dimensions
from ortnas.nas.architecture.subnet import Subnet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_EXAMPLE = ("Hello world", "Who is it?")


def example_ids(tokenizer: Tokenizer, head: str) -> tuple[str, list[int]]:
    """A text, or a question and a context, as one would write it, and its ids: what a port of the tokenizer must
    give."""
    text, question = _EXAMPLE
    tokenizer.no_truncation()
    if HEADS[head].reads_pairs:
        return f"question {question!r}, context {text!r}", tokenizer.encode(question, text).ids
    return repr(text), tokenizer.encode(text).ids


def model_card(
    name: str,
    dimensions: Dimensions,
    subnet: Subnet,
    labels: Sequence[str],
    max_length: int,
    record: Mapping[str, Any],
    example: tuple[str, list[int]],
) -> str:
    """Markdown. ``record`` is the package's; of what it does not hold, nothing is claimed.

    ``example`` is what ``example_ids`` gives.
    """
    origin = record.get("origin") or {}
    sections = [
        _front_matter(dimensions, record["precision"], origin),
        _introduction(name, dimensions.head, record, origin),
        _figures(subnet, record),
        _use(dimensions, labels, max_length, example, record),
        _limits(max_length, record),
    ]
    return "\n".join(sections)


def code(text: str) -> str:
    """A code span that shows any text as it is; line ends and other control characters become blanks."""
    plain = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text)
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    # Blanks inside keep a backtick at the edge apart from the fence, and a span from being empty.
    edge = " " if not plain.strip() or "`" in (plain[0], plain[-1]) else ""
    return f"{fence}{edge}{plain}{edge}{fence}"


def escaped(text: str) -> str:
    """Text that is neither HTML nor Markdown."""
    plain = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text)
    return re.sub(r"([\\`*_\[\]#!|~])", r"\\\1", html.escape(plain, quote=False))


def _front_matter(dimensions: Dimensions, precision: str, origin: Mapping[str, Any]) -> str:
    document: dict[str, Any] = {
        "library_name": "onnx",
        "pipeline_tag": HEADS[dimensions.head].pipeline,
        "tags": ["onnx", "onnxruntime", precision, dimensions.family, "ortnas"],
    }
    if origin.get("licence"):
        document["license"] = origin["licence"]
    if origin.get("base_model"):
        document["base_model"] = origin["base_model"]
    return f"---\n{yaml.safe_dump(document, sort_keys=False)}---\n"


def _introduction(name: str, head: str, record: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    checkpoint, budget_ms = code(_short(str(record["checkpoint"]))), record["budget_ms"]
    licence, data = origin.get("licence"), record.get("data")
    budget = "" if budget_ms is None else f"; winner of a search under a latency budget of {budget_ms:.2f} ms"
    kind = f"An {record['precision'].upper()} ONNX encoder"
    terms = (
        f"Its card states the licence {code(licence)}, which applies to these weights too."
        if licence
        else "Its licence applies to these weights too; no card beside it states one, so it is unknown here."
    )
    lines = [
        f"# {escaped(name)}\n",
        f"{kind} that {HEADS[head].purpose}, cut by ortnas from {checkpoint}{budget}.",
        f"The weights derive from that checkpoint. {terms}\n",
    ]
    if data:
        task = f" (task {code(data['task'])})" if data["task"] else ""
        lines.append(f"Training data: {code(_short(data['source']))}{task}, {data['texts']} texts or sequences.\n")
    return "\n".join(lines)


def _short(name: str) -> str:
    """Hub names and the like as they are; of a path the last part: where it lay on a machine is nobody's business."""
    is_path = name.startswith(("/", "~", ".", "\\")) or name.count("/") > 1 or ":\\" in name
    return PurePath(name.replace("\\", "/")).name if is_path and not name.startswith(("package:", "hub:")) else name


def _figures(subnet: Subnet, record: Mapping[str, Any]) -> str:
    latency, target = record["latency"], record["target"]
    requests = ", ".join(f"{kind['batch']} × {kind['sequence']} tokens" for kind in target["workloads"])
    predicted_ms = latency.get("predicted_ms")
    predicted = "" if predicted_ms is None else f"; predicted {predicted_ms:.2f} ms"
    tail = f", 95th percentile {latency['p95_ms']:.2f} ms" if "p95_ms" in latency else ""
    facts = target["fingerprint"]
    return f"""## Figures

* architecture: {subnet.describe()}
* latency: {latency["measured_ms"]:.2f} ± {latency["spread_ms"]:.2f} ms (median and half the interquartile
  range{tail}{predicted})
* measured on {escaped(str(facts["cpu"]))}, {target["setup"]["threads"]} thread(s), batch {requests},
  ONNX Runtime {escaped(str(facts["onnxruntime"]))}
* quantization: {_describe_quantization(record)}
{_scores(record)}"""


def _scores(record: Mapping[str, Any]) -> str:
    if not record.get("report"):
        return ""
    intervals = record.get("intervals") or {}
    rows = [(f"report split ({record['report_size']} texts, not used for any choice)", "score"), ("---", "---")]
    for name, value in record["report"].items():
        interval = intervals.get(name, {}).get("score")
        bounds = f" (95 % interval {interval['low']:.4f} to {interval['high']:.4f})" if interval else ""
        rows.append((escaped(name.replace("_", " ")), f"{value:.4f}{bounds}"))
    for name, found in intervals.items():
        difference = found.get("difference")
        if difference:
            figures = f"{difference['value']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
            rows.append((f"{escaped(name.replace('_', ' '))}, to the full model", figures))
    return "".join(f"\n| {figure} | {value} |" for figure, value in rows) + "\n"


def _describe_quantization(record: Mapping[str, Any]) -> str:
    if record["precision"] == "fp32":
        return "none, all weights are float32"
    share, drift = record["coverage"].get("weight_integer_share"), record.get("drift")
    told = [f"recipe {code(record['recipe']['name'])}"]
    if share is not None:
        told.append(f"{share:.1%} of the weight products' multiply-adds run\n  in integer kernels")
    if drift is not None:
        told.append(
            f"outputs differ from the float model's by {drift['mean']:.2g} on average and\n"
            f"  {drift['largest']:.2g} at most (cosine {drift['cosine']:.4f})"
        )
    return "; ".join(told)


def _use(
    dimensions: Dimensions,
    labels: Sequence[str],
    max_length: int,
    example: tuple[str, list[int]],
    record: Mapping[str, Any],
) -> str:
    order = ", ".join(f"{index} {code(label)}" for index, label in enumerate(labels))
    named = f"\nThe labels, in the order of the outputs: {order}.\n" if labels else ""
    return f"""## Use

`python predict.py "a text"` holds the whole path from text to output with onnxruntime and tokenizers alone.
`ortnas verify .` checks this folder on another machine. In any language that ONNX Runtime is for (C++, C#, Java,
JavaScript, Python):

```text
{_interface(dimensions, max_length, example, record)}
```
{named}"""


def _interface(
    dimensions: Dimensions, max_length: int, example: tuple[str, list[int]], record: Mapping[str, Any]
) -> str:
    null_threshold = record.get("null_threshold")
    meanings = {
        "input_ids": f"the tokens' ids, at most {max_length} a text",
        "attention_mask": "1 for tokens, 0 for padding",
        "token_type_ids": "0, or 1 for the second text of a pair",
    }
    outputs = _outputs(dimensions)
    width = max(len(name) for name in (*meanings, *(name for name, _, _ in outputs)))
    text, ids = example
    lines = [
        "load    model.onnx with default session options; tokenizer.json by a tokenizers library",
        *(f"feed    {name:{width}}  int64 [batch, sequence]  {meanings[name]}" for name in input_names(dimensions)),
        *(f"read    {name:{width}}  float32 {shape}  {meaning}" for name, shape, meaning in outputs),
        f"then    {_last_step(dimensions, record.get('activation'))}",
        *([] if null_threshold is None else [f"or      {_no_answer(null_threshold)}"]),
        f"check   {text} has the ids {ids}",
    ]
    return "\n".join(lines)


def _outputs(dimensions: Dimensions) -> list[tuple[str, str, str]]:
    """Names, shapes and meanings; all are float32."""
    head = HEADS[dimensions.head]
    rows = [(output.name, _shape(output_shape(output, dimensions)), output.meaning) for output in head.outputs]
    if head.makes_embeddings:
        again = _shape(("batch", 1, dimensions.embedding_size))
        rows.append((ALIAS, again, "the same once more, for loaders that ask for it"))
    return rows


def _shape(sizes: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _last_step(dimensions: Dimensions, activation: str | None) -> str:
    if activation == "sigmoid":
        return "1 / (1 + exp(-logit)) is the score that the checkpoint's cross-encoder gives, between 0 and 1"
    return HEADS[dimensions.head].reading


def _no_answer(null_threshold: float) -> str:
    return f"none where the first token's sum, the least of all windows', is more than {null_threshold:.6g} above it"


def _limits(max_length: int, record: Mapping[str, Any]) -> str:
    isa = record["recipe"].get("isa")
    more = (
        f"\n* The quantization recipe is for {code(str(isa))}; processors without these instructions may be slower."
        if isa and record["precision"] == "int8"
        else ""
    )
    if record.get("report"):
        more += (
            "\n* The score is that of texts like the report split's. Other languages and domains were not looked at."
        )
    return f"""## Limits

* Texts longer than {max_length} tokens are cut, contexts read in pieces.
* The latency is that of the host and the requests named above; `ortnas verify` measures another host's.{more}
* `sample.json` holds texts that the model was checked on: think of it before this folder is published.
"""
