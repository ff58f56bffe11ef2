from __future__ import annotations

import importlib.util
import itertools
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import transformers
from onnx import numpy_helper

from bench.fingerprint import fingerprint
from bench.store import Target
from bench.timing import Setup, Workload
from export.build import Exporter, load, model_outputs, run
from export.metrics import HEAD_METRICS, METRICS
from export.package import PackageContent, PackageError, Sample, checksum, read_record, read_sample, write_package
from export.recipes import recipe_named
from export.verify import sample_part, verify
from export.weights import read_supernet
from nas.checkpoint import read_checkpoint
from nas.families import FAMILIES, checkpoint_config
from nas.layout import HEAD_NAMES
from nas.space import Layer, Subnet
from nas.supernet import Supernet, save_supernet
from nas.text import IGNORED, Example, encode, load_tokenizer
from tests.networks import make_dimensions, make_space, write_checkpoint

LABELS = ("<b>no</b>", "yes & no", "yes")
CASES = {
    "embedding": "bert",
    "classification": "bert",
    "regression": "camembert",
    "token-classification": "roberta",
    "span": "distilbert",
    "masked-lm": "electra",
}
MAX_LENGTH = 20


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is looked at in several moments; here it only has to be found."""
    monkeypatch.setattr("export.verify._PAUSE_S", 0.0)


def make_examples(head: str, sentences: list[str]) -> list[Example]:
    rng = np.random.default_rng(0)
    examples = []
    for question, text in itertools.pairwise(sentences[:33]):
        words = tuple(text.split())
        tags = tuple(rng.integers(0, 3, len(words)).tolist())
        examples.append(
            {
                "embedding": Example(text),
                "classification": Example(text, label=int(rng.integers(3))),
                "regression": Example(text, label=float(rng.normal())),
                "token-classification": Example("", words=words, tags=tags),
                "span": Example(question[:9], text, answers=((0, words[0]),)),
                "masked-lm": Example(text),
            }[head]
        )
    return examples


def make_content(folder: Path, family: str, head: str, sentences: list[str]) -> PackageContent:
    """What the export stage makes of a random network, by the same calls."""
    labels = LABELS if "classification" in head else ()
    checkpoint = read_checkpoint(str(write_checkpoint(folder / "checkpoint", family, head)), head, labels)
    space = make_space(num_layers=2, depth=(1, 2))
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    checkpoint.tokenizer.save_pretrained(folder / "tokenizer")
    save_supernet(folder / "supernet", network, space, labels, folder / "tokenizer", {"checkpoint": "random"})
    supernet = read_supernet(folder / "supernet")
    tokenizer = load_tokenizer(folder / "supernet")
    examples = make_examples(head, sentences)
    encoded = encode(tokenizer, examples, MAX_LENGTH)
    exporter = Exporter(supernet, recipe_named("avx512_vnni"), [feeds for _, feeds in encoded.batches(16)])
    model = exporter.build(space.smallest, "int8")
    metric, tokens, teacher = HEAD_METRICS[head][0].__name__, [], None
    if head == "embedding":
        teacher = np.stack(model_outputs(model, encoded, head)).tolist()
    if head == "masked-lm":
        mask = tokenizer.token_to_id("[MASK]")
        tokens = [
            [[*row[:3], mask, *row[4:]], [IGNORED] * 3 + [row[3]] + [IGNORED] * len(row[4:])] for row in encoded.ids
        ]
        examples = []
    sample = Sample(metric, 0.0, [item.to_json() for item in examples], tokens, teacher)
    part = sample_part(sample, tokenizer, {"labels": labels, "max_length": MAX_LENGTH})
    score = METRICS[metric](model_outputs(model, part.encoded, head), part)
    target = Target(fingerprint(), Setup(), (Workload(1, 16, checkpoint.dimensions.vocab_size),))
    record = {
        "precision": "int8",
        "checkpoint": "random",
        "recipe": exporter.recipe.to_json(),
        "coverage": {"threshold": 0.99, "weight_integer_share": 1.0},
        "drift": {"largest": 0.1, "mean": 0.01, "cosine": 0.999, "flips": 0.0},
        "budget_ms": 1000.0,
        "latency": {"measured_ms": 1.0, "spread_ms": 0.1, "predicted_ms": 1.1},
        "report": {metric: score},
        "report_size": 32,
        "target": target.to_json(),
    }
    return PackageContent("name", model, supernet, space.smallest, MAX_LENGTH, replace(sample, score=score), record)


def write_exported(folder: Path, family: str, head: str, sentences: list[str]) -> Path:
    """A package of a random network."""
    write_package(folder / "package", make_content(folder, family, head, sentences))
    return folder / "package"


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """One package for every head."""
    head = request.param
    return write_exported(tmp_path_factory.mktemp("ordner mit ä"), CASES[head], head, sentences)


@pytest.fixture(scope="module")
def classifier_package(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    return write_exported(tmp_path_factory.mktemp("classifier"), "bert", "classification", sentences)


def states(folder: Path) -> dict[str, str]:
    return {check.name: check.state for check in verify(folder)}


def copy_of(package: Path, folder: Path) -> Path:
    target = folder / "copy"
    target.mkdir(parents=True)
    for path in package.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def change_record(folder: Path, **changes: Any) -> None:
    path = folder / "ortnas.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load_predict(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("packaged_predict", folder / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_whole_package_passes(exported: Path) -> None:
    assert states(exported) == dict.fromkeys(
        ("checksums", "load", "integer kernels", "host", "latency", "score"), "pass"
    )


def test_a_model_that_runs_in_floats_fails(tmp_path: Path, classifier_package: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    model = onnx.load(package / "model.onnx")
    # One product reads its weights as floats, as after a tool that undid their quantization.
    quantized = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    name = "layers/0/ffn/in.weight"
    values = quantized[f"{name}_quantized"] * quantized[f"{name}_scale"]
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    next(node for node in model.graph.node if node.name == "layers/0/ffn/in").input[1] = name
    onnx.save(model, package / "model.onnx")
    change_record(package, checksums={})
    failed = {check.name: check.detail for check in verify(package) if check.state == "fail"}
    assert "in floats: layers/0/ffn/in" in failed["integer kernels"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, sentences: list[str]) -> None:
    folder, content = tmp_path / "package", make_content(tmp_path, "bert", "classification", sentences)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_package(folder, content)
    before = {path.name: checksum(path) for path in folder.iterdir()}
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content.model) // 2, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_package(folder, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: checksum(path) for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_bare_session_loads_the_model(exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    feeds = {item.name: np.ones((2, 5), np.int64) for item in session.get_inputs()}
    assert session.run(None, feeds)[0].shape[0] == 2


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
    found, expected = np.array(json.loads(answer.stdout)), run(load((exported / "model.onnx").read_bytes()), feeds)
    if found.ndim == 3:
        found, expected = found[feeds["attention_mask"] == 1], expected[feeds["attention_mask"] == 1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_predict_prints_plain_values(exported: Path) -> None:
    head = read_record(exported)["head"]
    text = "he was in [MASK] and it was the [MASK]." if head == "masked-lm" else "he was in it, with them."
    command = [sys.executable, str(exported / "predict.py"), *(["he was?", text] if head == "span" else [text])]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    output = answer["output"]
    if head == "embedding":
        assert np.linalg.norm(output) == pytest.approx(1, abs=1e-3)
    elif head == "classification":
        assert set(output) == set(LABELS)
        assert sum(output.values()) == pytest.approx(1, abs=1e-3)
    elif head == "regression":
        assert isinstance(output, float)
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
            (found,) = model.describe(f"{text[:12]} [MASK]")
            (output,) = model([f"{text[:12]} [MASK]"])
            ids = model.tokenizer.encode(f"{text[:12]} [MASK]").ids
            order = np.argsort(-output[ids.index(model.tokenizer.token_to_id("[MASK]"))])[:5]
            assert found == [model.tokenizer.id_to_token(int(token)) for token in order]
        elif head == "token-classification":
            (output,) = model([text])
            encoding = model.tokenizer.encode(text)
            first = [encoding.word_ids.index(word) for word in sorted(set(encoding.word_ids) - {None})]
            assert [label for _, label in model.describe(text)] == [LABELS[output[token].argmax()] for token in first]
        else:
            (output,) = model([text])
            found = model.describe(text)
            if head == "classification":
                assert max(found, key=found.get) == LABELS[output.argmax()]
            else:
                np.testing.assert_allclose(np.ravel(found), output, atol=1e-5)


def test_predict_pads_with_the_tokenizers_own_token(exported: Path, sentences: list[str]) -> None:
    model = load_predict(exported).Model(exported)
    short, long = model.tokenizer.encode_batch([sentences[0][:4], sentences[1]])
    assert len(short.ids) == len(long.ids)
    roberta_like = read_record(exported)["head"] in ("regression", "token-classification")
    assert short.ids[-1] == (1 if roberta_like else 0)
    assert short.attention_mask[-1] == 0


def test_predict_finds_answers_in_contexts_longer_than_the_model_reads(tmp_path: Path, sentences: list[str]) -> None:
    package = write_exported(tmp_path, "distilbert", "span", sentences)
    model = load_predict(package).Model(package)
    context = " ".join(sentences[:8])
    answers = {model.describe((sentences[number], context)) for number in range(20, 40)}
    positions = [context.index(answer) for answer in answers if answer]
    assert max(positions) > 60
    assert model.describe((context, context)) in context


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEAD_NAMES)
def test_transformers_understands_the_configuration(tmp_path: Path, family: str, head: str) -> None:
    dimensions = make_dimensions(head, family=family, max_positions=50, table_size=20 if family == "electra" else 0)
    labels = LABELS if "classification" in head else ()
    settings = checkpoint_config(dimensions, Subnet(24, (Layer(0, 2, 8, 40), Layer(2, 3, 8, 48))), labels)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    state = getattr(transformers, config.architectures[0])(config).state_dict()
    base = "" if head == "embedding" else FAMILIES[family].base + "."
    positions = 52 if FAMILIES[family].positions_follow_padding else 50
    width = 20 if family == "electra" else 24
    assert state[f"{base}embeddings.position_embeddings.weight"].shape == (positions, width)
    assert config.num_labels == (dimensions.num_labels or 2)
    layers = {key for key in state if f".{FAMILIES[family].layers}.1." in f".{key}"}
    assert len(layers) == 16
    assert any(tuple(state[key].shape) == (48, 24) for key in layers)
    if labels:
        assert tuple(config.id2label.values()) == LABELS


def test_model_card_states_checkpoint_latency_score_and_interface(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    for fact in ("random", "1.00 ± 0.10 ms", "int64", "predict.py", *read_record(exported)["labels"]):
        assert fact in card
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    for item in (*session.get_inputs(), *session.get_outputs()):
        assert f"`{item.name}`" in card
    assert ("token_type_ids" in card) == ("token_type_ids" in [item.name for item in session.get_inputs()])


def test_a_changed_byte_and_a_missing_file_fail(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    model = bytearray((package / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (package / "model.onnx").write_bytes(model)
    (package / "tokenizer.json").unlink()
    (check,) = verify(package)
    assert check.state == "fail"
    assert "model.onnx was changed" in check.detail
    assert "tokenizer.json is missing" in check.detail


def test_too_slow_fails_here_and_warns_elsewhere(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    change_record(package, budget_ms=1e-6)
    assert states(package)["latency"] == "fail"
    target = read_record(package)["target"]
    change_record(package, target=target | {"fingerprint": target["fingerprint"] | {"cpu": "another"}})
    assert (states(package)["host"], states(package)["latency"]) == ("warn", "warn")


def test_a_model_that_answers_differently_fails(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    sample = json.loads((package / "sample.json").read_text())
    sample["score"] += 0.5
    (package / "sample.json").write_text(json.dumps(sample))
    record = read_record(package)
    checksums = {name: value for name, value in record["checksums"].items() if name != "sample.json"}
    change_record(package, checksums=checksums)
    assert states(package)["score"] == "fail"


def test_a_model_that_is_no_model_fails_to_load(classifier_package: Path, tmp_path: Path) -> None:
    package = copy_of(classifier_package, tmp_path)
    (package / "model.onnx").write_bytes(b"not a model")
    change_record(package, checksums={})
    assert states(package) == {"checksums": "pass", "load": "fail"}


def test_folders_that_are_no_package_get_a_sentence(classifier_package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="not a package"):
        read_record(tmp_path)
    package = copy_of(classifier_package, tmp_path)
    change_record(package, format=99)
    with pytest.raises(PackageError, match="newer than this release"):
        read_record(package)
    (package / "ortnas.json").write_text("{")
    with pytest.raises(PackageError, match="cannot be read"):
        read_record(package)
    change_record(copy_of(classifier_package, tmp_path / "second"), format=1)
    with pytest.raises(PackageError, match="older release; export it again"):
        read_record(tmp_path / "second" / "copy")
    third = copy_of(classifier_package, tmp_path / "third")
    (third / "sample.json").write_text('{"score": 1}')
    with pytest.raises(PackageError, match=r"sample.json cannot be read"):
        read_sample(third)
