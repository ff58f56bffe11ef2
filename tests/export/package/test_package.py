from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import transformers

from ortnas.bench.conditions import usable_processors
from ortnas.export.answers import answer_texts, best_spans
from ortnas.export.inference import load, model_outputs, run
from ortnas.export.package.package import write_package
from ortnas.export.package.record import Coverage, Facts, Latency, PackageError, file_digest, read_record
from ortnas.export.package.sample import ODD_TEXTS
from ortnas.export.part import Part
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.spelling import checkpoint_config, checkpoint_names, take_apart
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.nas.text import Example, encode, load_tokenizer
from tests.export.packages import LABELS, MAX_LENGTH, change_record, make_content, write_exported
from tests.networks import make_dimensions


def watch(model: Any) -> list[dict[str, np.ndarray]]:
    """The requests that a packaged model makes from now on."""
    session, asked = model.session, list[dict[str, np.ndarray]]()

    def run_watched(names: list[str], feeds: dict[str, np.ndarray]) -> object:
        asked.append(feeds)
        return session.run(names, feeds)

    model.session = SimpleNamespace(get_inputs=session.get_inputs, get_outputs=session.get_outputs, run=run_watched)
    return asked


def load_predict(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("packaged_predict", folder / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, sentences: list[str]) -> None:
    folder, content = tmp_path / "package", make_content(tmp_path, "bert", "classification", sentences)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_package(folder, content)
    before = {path.name: file_digest(path) for path in folder.iterdir()}
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content.model) // 2, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_package(folder, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: file_digest(path) for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, sentences: list[str]) -> None:
    content = make_content(tmp_path, "bert", "classification", sentences)
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file" / "package", Path("/proc/package")):
        with pytest.raises(OSError, match=str(folder.parent)):
            write_package(folder, content)


def test_a_record_of_the_least_makes_a_package_that_claims_no_more(tmp_path: Path, sentences: list[str]) -> None:
    content = make_content(tmp_path, "bert", "classification", sentences)
    facts = Facts(precision="int8", recipe=content.facts.recipe, target=content.facts.target, latency=Latency(1.0, 0.1))
    write_package(tmp_path / "package", replace(content, facts=facts))
    record = read_record(tmp_path / "package")
    assert record.checkpoint == str(tmp_path / "checkpoint")
    assert (record.budget_ms, record.coverage) == (None, Coverage())
    card = (tmp_path / "package" / "README.md").read_text()
    assert "* latency: 1.00 ± 0.10 ms (median and half the interquartile\n  range)\n" in card
    assert "* quantization: recipe `avx512_vnni`\n" in card
    for claim in ("budget", "score", "report", "predicted", "None", "Training data"):
        assert claim not in card


def test_only_the_model_that_was_timed_is_packaged(tmp_path: Path, sentences: list[str]) -> None:
    content = make_content(tmp_path, "bert", "classification", sentences)
    with pytest.raises(PackageError, match=r"^name: the model to package has the SHA-256 \w{12}\.\.\., the one"):
        write_package(tmp_path / "package", replace(content, model=content.model + b"\0"))
    assert [path.name for path in tmp_path.iterdir() if "package" in path.name] == []


def test_a_bare_session_loads_the_model(exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    feeds = {item.name: np.ones((2, 5), np.int64) for item in session.get_inputs()}
    assert session.run(None, feeds)[0].shape[0] == 2


@pytest.mark.slow
def test_predict_runs_alone_and_gives_the_same_outputs(exported: Path, sentences: list[str]) -> None:
    """In an interpreter that can import neither the project nor torch."""
    script = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import predict\n"
        "print(json.dumps(predict.Model()(list(zip(sys.argv[2::2], sys.argv[3::2]))).tolist()))\n"
        "assert not {'torch', 'transformers', 'onnx', 'nas', 'export'} & set(sys.modules)"
    )
    texts = sentences[:6]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", script, str(exported), *texts]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=exported)
    pairs = [Example(text, pair) for text, pair in zip(texts[::2], texts[1::2], strict=True)]
    encoded = encode(load_tokenizer(exported), pairs, MAX_LENGTH)
    feeds = encoded.feeds(range(3))
    predicted, expected = np.array(json.loads(answer.stdout)), run(load((exported / "model.onnx").read_bytes()), feeds)
    if predicted.ndim == 3:
        predicted, expected = predicted[feeds["attention_mask"] == 1], expected[feeds["attention_mask"] == 1]
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


@pytest.mark.slow
def test_predict_prints_plain_values(exported: Path) -> None:
    head = read_record(exported).head
    text = "he was in [MASK] and it was the [MASK]." if head == "masked-lm" else "he was in it, with them."
    texts = ["he was?", text] if head in ("span", "reranking") else [text]
    command = [sys.executable, str(exported / "predict.py"), *texts]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    output = answer["output"]
    if head == "embedding":
        assert np.linalg.norm(output) == pytest.approx(1, abs=1e-3)
    elif head == "classification":
        assert set(output) == set(LABELS)
        assert sum(output.values()) == pytest.approx(1, abs=1e-3)
    elif head in ("regression", "reranking"):
        assert isinstance(output, float)
        assert answer["text"] == text
    elif head == "multi-label":
        assert set(output["probabilities"]) == set(LABELS)
        assert set(output["labels"]) == {label for label, value in output["probabilities"].items() if value >= 0.5}
    elif head == "late-interaction":
        assert np.linalg.norm([vector for _, vector in output], axis=1) == pytest.approx(1, abs=1e-3)
    elif head == "sparse":
        assert output
        assert min(output.values()) > 0
    elif head == "token-classification":
        assert [word for word, _ in output] == ["he", "was", "in", "it", ",", "with", "them", "."]
        assert {label for _, label in output} <= set(LABELS)
    elif head == "span":
        assert output
        assert output in text
    else:
        assert [len(words) for words in output] == [5, 5]
    failed = subprocess.run(command[:2], capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert failed.stderr.startswith("usage:")


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["sigmoid", "identity", None])
def test_a_cross_encoder_gives_the_score_of_its_library(
    tmp_path: Path, sentences: list[str], activation: str | None
) -> None:
    content = make_content(tmp_path, "bert", "regression", sentences)
    provenance = {"checkpoint": "x", "activation": activation}
    write_package(tmp_path / "package", replace(content, supernet=replace(content.supernet, provenance=provenance)))
    model = load_predict(tmp_path / "package").Model(tmp_path / "package")
    logit = float(model([sentences[0]])[0, 0])
    score = 1 / (1 + np.exp(-logit)) if activation == "sigmoid" else logit
    assert model.describe(sentences[0]) == pytest.approx(score, abs=1e-5)
    config = json.loads((tmp_path / "package" / "config.json").read_text())
    path = "torch.nn.modules.activation.Sigmoid" if activation == "sigmoid" else "torch.nn.modules.linear.Identity"
    assert config["sentence_transformers"] == {"activation_fn": path}
    card = (tmp_path / "package" / "README.md").read_text()
    assert ("1 / (1 + exp(-logit)) is the score" in card) == (activation == "sigmoid")


PROMPTS = {"query": "he was ", "document": "", "`odd`": "| it "}


@pytest.mark.slow
def test_prompts_are_put_before_texts(tmp_path: Path, sentences: list[str]) -> None:
    content = make_content(tmp_path, "bert", "embedding", sentences)
    usage = {"prompts": PROMPTS, "default_prompt": "query", "similarity": "dot"}
    folder = tmp_path / "package"
    write_package(folder, replace(content, supernet=replace(content.supernet, provenance=usage)))
    plain = load_predict(write_exported(tmp_path / "plain", "bert", "embedding", sentences)).Model(
        tmp_path / "plain" / "package"
    )
    model, text = load_predict(folder).Model(folder), sentences[0]
    for name, prompt in (("query", "he was "), ("document", ""), ("`odd`", "| it "), (None, "he was ")):
        np.testing.assert_array_equal(model([text], name), plain([prompt + text]))
        assert model.describe(text, name) == plain.describe(prompt + text)
    with pytest.raises(KeyError):
        plain([text], "query")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, str(folder / "predict.py"), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    assert json.loads(command("--prompt", "document", text).stdout)["output"] == plain.describe(text)
    assert json.loads(command(text).stdout)["output"] == plain.describe("he was " + text)
    for arguments in (("--prompt", "passage", text), ("--prompt",)):
        failed = command(*arguments)
        assert failed.returncode == 1
        assert failed.stderr.startswith("the package has no prompt ")
    assert command("--prompt", "document").stderr.startswith("usage:")
    record = read_record(folder)
    assert (record.prompts, record.default_prompt, record.similarity) == (PROMPTS, "query", "dot")
    card = (folder / "README.md").read_text()
    assert (
        "puts before a text: `query` (`he was `), `` `odd` `` (`| it `). Where nothing is asked for, `query` is."
        in card
    )


def test_only_vectors_that_are_of_length_one_are_said_to_be(tmp_path: Path, sentences: list[str]) -> None:
    content = make_content(tmp_path, "bert", "embedding", sentences)
    for modules, is_unit in ((content.supernet.dimensions.modules, True), ((), False)):
        dimensions = replace(content.supernet.dimensions, modules=modules)
        write_package(tmp_path / "package", replace(content, supernet=replace(content.supernet, dimensions=dimensions)))
        assert ("of length one" in (tmp_path / "package" / "README.md").read_text()) == is_unit


def test_predict_describes_what_the_model_answers(exported: Path, sentences: list[str]) -> None:
    model = load_predict(exported).Model(exported)
    head = model.record["head"]
    for question, text in zip(sentences[:4], sentences[4:8], strict=True):
        question = question[:9]
        if head == "span":
            (output,) = model([(question, text)])
            encoding = model.tokenizer.encode(question, text)
            context = [token for token, part in enumerate(encoding.sequence_ids) if part == 1]
            pairs = [(low, high) for low in context for high in context if low <= high < low + 30]
            low, high = max(pairs, key=lambda pair: output[pair[0], 0] + output[pair[1], 1])
            assert model.describe((question, text)) == text[encoding.offsets[low][0] : encoding.offsets[high][1]]
        elif head == "masked-lm":
            (tokens,) = model.describe(f"{text[:12]} [MASK]")
            (output,) = model([f"{text[:12]} [MASK]"])
            ids = model.tokenizer.encode(f"{text[:12]} [MASK]").ids
            order = np.argsort(-output[ids.index(model.tokenizer.token_to_id("[MASK]"))])[:5]
            assert tokens == [model.tokenizer.id_to_token(int(token)) for token in order]
        elif head == "token-classification":
            (output,) = model([text])
            encoding = model.tokenizer.encode(text)
            first = [encoding.word_ids.index(word) for word in sorted(set(encoding.word_ids) - {None})]
            assert [label for _, label in model.describe(text)] == [LABELS[output[token].argmax()] for token in first]
        elif head == "reranking":
            scores = model([(question, passage) for passage in (text, question, "he was")])[:, 0]
            ranked = model.describe((question, text, question, "he was"))
            assert sorted(passage for passage, _ in ranked) == sorted([text, question, "he was"])
            np.testing.assert_allclose([score for _, score in ranked], np.sort(scores)[::-1], atol=1e-5)
        elif head == "multi-label":
            (output,) = model([text])
            probabilities = model.describe(text)["probabilities"]
            np.testing.assert_allclose(list(probabilities.values()), 1 / (1 + np.exp(-output)), atol=1e-4)
        elif head == "late-interaction":
            (output,) = model([text])
            np.testing.assert_allclose([vector for _, vector in model.describe(text)], output, atol=1e-5)
        elif head == "sparse":
            (output,) = model([text])
            weights = {model.tokenizer.token_to_id(token): weight for token, weight in model.describe(text).items()}
            assert set(weights) == set(np.flatnonzero(output).tolist())
            np.testing.assert_allclose([weights[token] for token in sorted(weights)], output[output > 0], atol=1e-4)
        else:
            (output,) = model([text])
            description = model.describe(text)
            if head == "classification":
                assert max(description, key=description.get) == LABELS[output.argmax()]
            else:
                np.testing.assert_allclose(np.ravel(description), output, atol=1e-5)


def test_predict_pads_with_the_tokenizers_own_token(exported: Path, sentences: list[str]) -> None:
    model = load_predict(exported).Model(exported)
    asked = watch(model)
    model([sentences[0][:4], sentences[1]])
    (feeds,) = asked
    roberta_like = read_record(exported).head in ("regression", "token-classification", "multi-label")
    assert feeds["input_ids"][0, -1] == (1 if roberta_like else 0)
    assert feeds["attention_mask"][0, -1] == 0


@pytest.mark.slow
def test_predict_finds_answers_in_contexts_longer_than_the_model_reads(tmp_path: Path, sentences: list[str]) -> None:
    package = write_exported(tmp_path, "distilbert", "span", sentences)
    model = load_predict(package).Model(package)
    context = " ".join(sentences[:8])
    answers = {model.describe((sentences[number], context)) for number in range(20, 40)}
    positions = [context.index(answer) for answer in answers if answer]
    assert max(positions) > 60
    assert model.describe((context, context)) in context


@pytest.mark.slow
@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_predict_gives_the_answers_that_the_scores_are_of(tmp_path: Path, family: str, sentences: list[str]) -> None:
    package = write_exported(tmp_path, family, "span", sentences)
    long = " ".join(sentences[:12])
    texts = [(sentences[row][:20], " ".join(sentences[row : row + row % 5 + 1])) for row in range(30)]
    texts += [(long, long), (long, "the of"), ("the", long)]
    examples = [Example(question, context, answers=()) for question, context in texts]
    encoded = encode(load_tokenizer(package), examples, MAX_LENGTH)
    outputs = model_outputs((package / "model.onnx").read_bytes(), encoded, "span")
    margins = sorted(span.null_margin for span in best_spans(outputs, Part(encoded, examples)))
    for threshold in (None, margins[-1] + 1, (margins[15] + margins[16]) / 2, margins[0] - 1):
        change_record(package, null_threshold=threshold)
        model = load_predict(package).Model(package)
        # What has a threshold higher than any margin answers all, as what has none.
        part = Part(encoded, examples, null_threshold=1e9 if threshold is None else threshold)
        expected = answer_texts(outputs, part)
        assert [model.describe(text) for text in texts] == expected
        assert expected.count("") == (0 if threshold is None else sum(margin > threshold for margin in margins))


@pytest.mark.slow
def test_the_tokenizer_gives_the_ids_of_the_checkpoints(exported: Path, sentences: list[str]) -> None:
    texts = [*ODD_TEXTS, *sentences[:20], " ".join(sentences)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.parent / "checkpoint")
    expected = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    encoded = encode(load_tokenizer(exported), [Example(text) for text in texts], MAX_LENGTH)
    assert [list(row) for row in encoded.ids] == expected
    assert {len(row) for row in expected} >= {2, MAX_LENGTH}
    model = load_predict(exported).Model(exported)
    assert [model.tokenizer.encode(text).ids for text in texts] == expected
    again = transformers.AutoTokenizer.from_pretrained(exported)
    assert again(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"] == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_transformers_understands_the_configuration(tmp_path: Path, family: str, head: str) -> None:
    sizes = {"max_positions": 50, "table_size": 20 if family == "electra" else 0, "padding_id": 1}
    dimensions = make_dimensions(head, family=family, **sizes)
    labels = LABELS if HEADS[head].has_label_names else ()
    settings = checkpoint_config(dimensions, Subnet(24, (Layer(0, 2, 8, 40), Layer(2, 3, 8, 48))), labels)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    state = take_apart(getattr(transformers, config.architectures[0])(config).state_dict(), FAMILIES[family])
    names = checkpoint_names(dimensions)
    positions = 52 if FAMILIES[family].positions_follow_padding else 50
    width = 20 if family == "electra" else 24
    assert state[names["embeddings.word"]].shape == (120, width)
    if "embeddings.position" in names:
        assert state[names["embeddings.position"]].shape == (positions, width)
    assert config.pad_token_id == 1
    assert config.num_labels == (dimensions.num_labels or 2)
    layers = {key for key in state if f".{FAMILIES[family].layers}.1." in f".{key}"}
    assert layers <= set(names.values())
    # Some have no biases.
    assert len(layers) >= 9
    assert any(tuple(state[key].shape) == (48, 24) for key in layers)
    if labels:
        assert tuple(config.id2label.values()) == LABELS


def test_predict_takes_a_thread_for_each_processor_that_is_granted(exported: Path) -> None:
    model = load_predict(exported).Model
    threads = [model(exported, asked).session.get_session_options().intra_op_num_threads for asked in (0, 3)]
    assert threads == [usable_processors(), 3]
