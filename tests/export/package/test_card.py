from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.inference import Drift
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.package.card import code, escaped, model_card
from ortnas.export.package.record import Coverage, Facts, Latency, Origin, TrainingData, read_record
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.text import load_tokenizer
from tests.networks import make_dimensions, make_space

NASTY = (
    "<script>alert(1)</script>",
    "`` ` </code>",
    "x|y | z",
    "[a](javascript:b) ![](c)",
    "*b* _i_ # h",
    "a\n\n# heading\r\n```\n",
    "\\",
    "",
    "`",
)
TARGET = Target({"cpu": "a processor", "onnxruntime": "1.0"}, Setup(threads=2), (Workload(1, 16),))
FACTS = Facts(
    precision="int8",
    checkpoint="org/bert",
    recipe=recipe_named("avx2"),
    coverage=Coverage(weight_integer_share=1.0),
    drift=Drift(largest=0.1, mean=0.01, cosine=0.999, flips=0.0),
    latency=Latency(measured_ms=1.0, spread_ms=0.1, p95_ms=1.4),
    report={"accuracy": 0.9},
    report_size=32,
    target=TARGET,
)


def write_card(name: str = "card", labels: tuple[str, ...] = ("a", "b", "c"), **changes: Any) -> str:
    dimensions, facts = make_dimensions("classification"), replace(FACTS, **changes)
    return model_card(name, dimensions, make_space().smallest, labels, 16, facts, ("'a'", [2, 5, 3]))


def parse(card: str) -> tuple[list[str], list[Any]]:
    """Of the Markdown below the front matter: the types of its blocks, and the pieces of its texts."""
    body = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    blocks = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    return [block.type for block in blocks], [piece for block in blocks for piece in block.children or ()]


@pytest.mark.slow
def test_a_card_states_checkpoint_latency_score_and_interface(exported: Path) -> None:
    card, record = (exported / "README.md").read_text(), read_record(exported)
    ((metric, score),) = record.report.items()
    interval = f"{score:.4f} (95 % interval {score - 0.03:.4f} to {score + 0.02:.4f})"
    facts = ("`random`", "1.00 ± 0.10 ms", "predict.py", metric.replace("_", " "), interval, *record.labels)
    for fact in (*facts, "latency budget of 1000.00 ms", "`texts.tsv`, 300 texts", "no card beside it states one"):
        assert fact in card
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    for item in session.get_inputs():
        assert re.search(rf"^feed    {item.name} +int64 \[batch, sequence\] ", card, re.MULTILINE)
    for item in session.get_outputs():
        shape = ", ".join(map(str, item.shape))
        assert re.search(rf"^read    {item.name} +float32 \[{shape}\] ", card, re.MULTILINE)
    assert ("token_type_ids" in card) == ("token_type_ids" in [item.name for item in session.get_inputs()])
    texts = ("Who is it?", "Hello world") if HEADS[record.head].reads_pairs else ("Hello world",)
    assert f"has the ids {load_tokenizer(exported).encode(*texts).ids}" in card


def test_the_hub_reads_the_front_matter(exported: Path) -> None:
    data = ModelCard.load(exported / "README.md").data
    assert data.library_name == "onnx"
    assert data.pipeline_tag
    assert {"onnx", "int8", "ortnas"} <= set(data.tags)
    assert (data.license, data.base_model) == (None, None)
    stated = ModelCard(write_card(origin=Origin("org/bert", "apache-2.0")))
    assert (stated.data.license, stated.data.base_model) == ("apache-2.0", "org/bert")
    assert "states the licence `apache-2.0`" in stated.text


def test_nothing_is_claimed_that_the_record_leaves_out() -> None:
    card = write_card()
    for absent in ("budget", "search", "winner", "predicted", "interval ", "Training data"):
        assert absent not in card


def test_integer_attention_is_stated() -> None:
    sentence = "products of two activations in integers"
    assert sentence not in write_card()
    assert f"{sentence}: `scores`" in write_card(recipe=replace(FACTS.recipe, attention="scores"))


def test_texts_without_labels_are_counted() -> None:
    data = TrainingData("reviews", None, 400, ("more.txt",), 100)
    assert "`reviews`, `more.txt`, 400 texts or sequences, 100 of them with labels." in write_card(data=data)
    assert "with labels" not in write_card(data=TrainingData("reviews", None, 400))


@pytest.mark.parametrize("text", NASTY)
def test_no_name_or_label_is_markup(text: str) -> None:
    data = TrainingData("texts", "a task", 3)
    usual, _ = parse(write_card(data=data))
    target = replace(TARGET, fingerprint={"cpu": text, "onnxruntime": text})
    data = TrainingData(f"hub:{text}", f"a task {text}", 3)
    blocks, pieces = parse(write_card(text, (text, "b", "c"), checkpoint=f"hub:{text}", data=data, target=target))
    assert [kind for kind in blocks if kind != "inline"] == [kind for kind in usual if kind != "inline"]
    assert not {"html_inline", "link_open", "image"} & {piece.type for piece in pieces}
    spans = [" ".join(piece.content.split()) for piece in pieces if piece.type == "code_inline"]
    for shown in (text, f"hub:{text}", f"a task {text}"):
        assert " ".join(shown.split()) in spans


def test_escapes_show_every_text_as_it_is() -> None:
    markdown = MarkdownIt("commonmark")
    for text in NASTY:
        shown = re.sub(r"[\r\n]+", " ", text)
        (_, inline, _) = markdown.parse(f"a {code(text)} b")
        assert [token.content for token in inline.children or () if token.type == "code_inline"] == [shown or "  "]
        (_, inline, _) = markdown.parse(f"a {escaped(text)} b")
        assert "".join(token.content for token in inline.children or ()).strip() == f"a {shown} b".strip()


def test_paths_of_the_machine_stay_out_of_the_card() -> None:
    for path in ("/home/ada/models/encoder", "~/models/encoder", "../models/encoder", "C:\\models\\encoder"):
        card = write_card(checkpoint=path)
        assert "from `encoder`." in card
        assert path not in card
    assert "from `org/encoder`." in write_card(checkpoint="org/encoder")
