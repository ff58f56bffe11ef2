"""The model card of a package: README.md with the front matter that the Hugging Face hub reads.

Names, labels and texts come from users: they stand in code spans or escaped, so that none of them is markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from ortnas.bench import fastmath
from ortnas.bench.session import RUNTIMES
from ortnas.export.graph.heads import ALIAS, output_shape
from ortnas.export.graph.inputs import ModelInputs, input_names, inputs_for
from ortnas.export.metrics import RECALL_OF
from ortnas.export.package.record import Facts, Origin
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
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
        first, second = ("query", "passage") if HEADS[head].ranks else ("question", "context")
        return f"{first} {question!r}, {second} {text!r}", tokenizer.encode(question, text).ids
    return repr(text), tokenizer.encode(text).ids


def model_card(
    name: str,
    dimensions: Dimensions,
    subnet: Subnet,
    labels: Sequence[str],
    max_length: int,
    facts: Facts,
    example: tuple[str, list[int]],
) -> str:
    """Markdown. Of what ``facts`` do not hold, nothing is claimed.

    ``example`` is what ``example_ids`` gives.
    """
    sections = [
        _front_matter(dimensions, facts),
        _introduction(name, dimensions.head, facts),
        _figures(subnet, facts),
        _use(dimensions, labels, max_length, example, facts),
        _limits(max_length, facts),
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


_UNKNOWN_ORIGIN = Origin(base_model=None, licence=None)


def _front_matter(dimensions: Dimensions, facts: Facts) -> str:
    origin = facts.origin or _UNKNOWN_ORIGIN
    document: dict[str, Any] = {
        "library_name": "onnx",
        "pipeline_tag": HEADS[dimensions.head].pipeline,
        "tags": ["onnx", facts.target.setup.runtime, facts.precision, dimensions.family, "ortnas"],
    }
    if origin.licence:
        document["license"] = origin.licence
    if origin.base_model:
        document["base_model"] = origin.base_model
    return f"---\n{yaml.safe_dump(document, sort_keys=False)}---\n"


def _introduction(name: str, head: str, facts: Facts) -> str:
    checkpoint, budget_ms = code(_short(facts.checkpoint or "unknown")), facts.budget_ms
    licence, data = (facts.origin or _UNKNOWN_ORIGIN).licence, facts.data
    budget = "" if budget_ms is None else f"; winner of a search under a {_budget(facts, budget_ms)}"
    made = "cut" if facts.calibration is None else "made without training"
    kind = f"An {facts.precision.upper()} ONNX encoder"
    terms = (
        f"Its card states the licence {code(licence)}, which applies to these weights too."
        if licence
        else "Its licence applies to these weights too; no card beside it states one, so it is unknown here."
    )
    lines = [
        f"# {escaped(name)}\n",
        f"{kind} that {HEADS[head].purpose}, {made} by ortnas from {checkpoint}{budget}.",
        f"The weights derive from that checkpoint. {terms}\n",
    ]
    if data:
        task = f" (task {code(data.task)})" if data.task else ""
        sources = ", ".join(code(_short(source)) for source in (data.source, *data.further))
        labelled = "" if data.labelled is None else f", {data.labelled} of them with labels"
        lines.append(f"Training data: {sources}{task}, {data.texts} texts or sequences{labelled}.\n")
    return "\n".join(lines)


def _budget(facts: Facts, budget_ms: float) -> str:
    if facts.budget is None or not facts.is_throughput:
        return f"latency budget of {budget_ms:.2f} ms"
    requests = facts.budget.removesuffix("/s")
    return (
        f"budget of {requests} requests a second, {facts.target.setup.concurrency} at a time: {budget_ms:.2f} ms for "
        f"each in the mean"
    )


def _short(name: str) -> str:
    """Hub names and the like as they are; of a path the last part: where it lay on a machine is nobody's business."""
    is_path = name.startswith(("/", "~", ".", "\\")) or name.count("/") > 1 or ":\\" in name
    return PurePath(name.replace("\\", "/")).name if is_path and not name.startswith(("package:", "hub:")) else name


def _figures(subnet: Subnet, facts: Facts) -> str:
    latency, target = facts.latency, facts.target
    requests = ", ".join(f"{workload.batch} × {workload.sequence} tokens" for workload in target.workloads)
    predicted = "" if latency.predicted_ms is None else f"; predicted {latency.predicted_ms:.2f} ms"
    tail = "" if latency.p95_ms is None else f", 95th percentile {latency.p95_ms:.2f} ms"
    host, runtime = target.fingerprint, target.setup.runtime
    return f"""## Figures

* architecture: {subnet.describe()}
* latency: {latency.measured_ms:.2f} ± {latency.spread_ms:.2f} ms (median and half the interquartile
  range{tail}{predicted})
* measured on {escaped(str(host["cpu"]))}, {target.setup.describe()}, batch {requests},
  {RUNTIMES[runtime]} {escaped(str(host[runtime]))}
* quantization: {_describe_quantization(facts)}
{_scores(facts)}"""


def _scores(facts: Facts) -> str:
    if not facts.report:
        return ""
    judged = "" if facts.judged is None else f" and {escaped(facts.judged)}"
    rows = [(f"report part ({facts.report_size} texts{judged}, not used for any choice)", "score"), ("---", "---")]
    for name, value in facts.report.items():
        interval = facts.intervals[name].score if name in facts.intervals else None
        bounds = f" (95 % interval {interval.low:.4f} to {interval.high:.4f})" if interval else ""
        plain = name if name.startswith(RECALL_OF) else name.replace("_", " ")
        rows.append((escaped(plain), f"{value:.4f}{bounds}"))
    for name, intervals in facts.intervals.items():
        rows.append((f"{escaped(name.replace('_', ' '))}, to the full model", intervals.difference.signed))
    return "".join(f"\n| {figure} | {value} |" for figure, value in rows) + "\n"


def _describe_quantization(facts: Facts) -> str:
    if facts.precision == "fp32":
        return "none, all weights are float32"
    share, drift = facts.coverage.weight_integer_share, facts.drift
    sentences = [f"recipe {code(facts.recipe.name)}"]
    if share is not None:
        sentences.append(f"{share:.1%} of the weight products' multiply-adds run\n  in integer kernels")
    if facts.recipe.keep_float:
        sentences.append(f"in float stay\n  {', '.join(map(code, facts.recipe.keep_float))}")
    if facts.recipe.attention != "float":
        sentences.append(f"products of two activations in integers: {code(facts.recipe.attention)}")
    if facts.calibration is not None:
        sentences.append(f"ranges are those of {escaped(facts.calibration)}")
    if drift is not None:
        sentences.append(
            f"outputs differ from the float model's by {drift.mean:.2g} on average and\n"
            f"  {drift.largest:.2g} at most (cosine {drift.cosine:.4f})"
        )
    if (between := facts.runtime_drift) is not None:
        setup = facts.target.setup
        other = "its own in float32" if setup.fastmath_bfloat16 else "those of ONNX Runtime"
        with_what = " with products in bfloat16" if setup.fastmath_bfloat16 else ""
        sentences.append(
            f"{RUNTIMES[setup.runtime]}{with_what} computes outputs that differ from {other}, which\n"
            f"  gave the scores, by {between.mean:.2g} on average and {between.largest:.2g} at most (cosine "
            f"{between.cosine:.4f})"
        )
    return "; ".join(sentences)


def _use(
    dimensions: Dimensions,
    labels: Sequence[str],
    max_length: int,
    example: tuple[str, list[int]],
    facts: Facts,
) -> str:
    order, of_thresholds = ", ".join(f"{index} {code(label)}" for index, label in enumerate(labels)), ""
    if facts.label_thresholds:
        numbered = enumerate(zip(labels, facts.label_thresholds, strict=True))
        order = ", ".join(f"{index} {code(label)} from {threshold:.4f}" for index, (label, threshold) in numbered)
        of_thresholds = ", with their thresholds"
    named = f"\nThe labels, in the order of the outputs{of_thresholds}: {order}.\n" if labels else ""
    named += _prompts(facts)
    return f"""## Use

`python predict.py "a text"` holds the whole path from text to output with
{facts.target.setup.runtime} and tokenizers alone.
`ortnas verify .` checks this folder on another machine. In any language that ONNX Runtime is for (C++, C#, Java,
JavaScript, Python):

```text
{_interface(dimensions, max_length, example, facts)}
```
{named}"""


def _prompts(facts: Facts) -> str:
    listed = [f"{code(name)} ({code(text)})" for name, text in facts.prompts.items() if text]
    if not listed:
        return ""
    usual = "none is" if facts.default_prompt is None else f"{code(facts.default_prompt)} is"
    return (
        f"\nPrompts that `predict.py --prompt NAME` puts before a text: {', '.join(listed)}. Where nothing is asked "
        f"for, {usual}.\n"
    )


def _interface(dimensions: Dimensions, max_length: int, example: tuple[str, list[int]], facts: Facts) -> str:
    meanings = {
        "input_ids": f"the tokens' ids, at most {max_length} a text",
        "attention_mask": "1 for tokens, 0 for padding",
        "token_type_ids": "0, or 1 for the second text of a pair",
    }
    inputs = inputs_for(facts.target.main_workload)
    if inputs.shapes is not None:
        meanings["input_ids"] += ", padded behind its end" if inputs.mask else ""
    outputs = _outputs(dimensions, inputs)
    asked = _shape(list(inputs.sizes.values()))
    width = max(len(name) for name in (*meanings, *(name for name, _, _ in outputs)))
    text, ids = example
    options = (
        f"session entry {fastmath.ENTRY} = 1" if facts.target.setup.fastmath_bfloat16 else "default session options"
    )
    lines = [
        f"load    model.onnx with {options}; tokenizer.json by a tokenizers library",
        *(f"feed    {name:{width}}  int64 {asked}  {meanings[name]}" for name in input_names(dimensions, inputs.mask)),
        *(f"read    {name:{width}}  float32 {shape}  {meaning}" for name, shape, meaning in outputs),
        f"then    {_last_step(dimensions, facts.activation)}",
        *([] if facts.null_threshold is None else [f"or      {_no_answer(facts.null_threshold)}"]),
        f"check   {text} has the ids {ids}",
    ]
    return "\n".join(lines)


def _outputs(dimensions: Dimensions, inputs: ModelInputs) -> list[tuple[str, str, str]]:
    """Names, shapes and meanings; all are float32."""
    head = HEADS[dimensions.head]
    length = ", of length one" if head.makes_embeddings and dimensions.makes_unit_vectors else ""
    rows = [(output.name, output_shape(output, dimensions), output.meaning + length) for output in head.outputs]
    if head.makes_embeddings:
        again = ("batch", 1, dimensions.embedding_size)
        rows.append((ALIAS, again, "the same once more, for loaders that ask for it"))
    sizes = inputs.sizes
    return [(name, _shape([sizes.get(str(size), size) for size in shape]), meaning) for name, shape, meaning in rows]


def _shape(sizes: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _last_step(dimensions: Dimensions, activation: str | None) -> str:
    if activation == "sigmoid":
        return "1 / (1 + exp(-logit)) is the score that the checkpoint's cross-encoder gives, between 0 and 1"
    return HEADS[dimensions.head].reading


def _requests(inputs: ModelInputs) -> str:
    """What else than texts of any number and length the model takes."""
    if inputs.shapes is None:
        unequal = "the texts of a request have to be equally long. `predict.py` asks about others apart; so have"
        return "" if inputs.mask else f"\n* The model is told of no padding: {unequal}\n  other programs to."
    batch, sequence = inputs.shapes
    alone = f"\n* The model takes requests of {batch} × {sequence} tokens alone"
    if inputs.mask:
        return f"{alone}. `predict.py` fills them up; so have other programs to."
    return f"{alone}, and is told of no padding: texts of other lengths are refused."


def _no_answer(null_threshold: float) -> str:
    return f"none where the first token's sum, the least of all windows', is more than {null_threshold:.6g} above it"


def _limits(max_length: int, facts: Facts) -> str:
    isa = facts.recipe.isa
    more = (
        f"\n* The quantization recipe is for {code(isa)}; processors without these instructions may be slower."
        if isa and facts.precision == "int8"
        else ""
    )
    if facts.report:
        more += "\n* The score is that of texts like the report part's. Other languages and domains were not looked at."
    more += _requests(inputs_for(facts.target.main_workload))
    return f"""## Limits

* Texts longer than {max_length} tokens are cut, contexts read in pieces.
* The latency is that of the host and the requests named above; `ortnas verify` measures another host's.{more}
* `sample.json` holds texts that the model was checked on: think of it before this folder is published.
"""
