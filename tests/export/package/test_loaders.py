"""Packages in other people's loaders, in an interpreter that has them: ``make test-loaders``."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.build import Exporter
from ortnas.export.extraction import extract
from ortnas.export.inference import load, run
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.package.package import PackageContent, write_package
from ortnas.export.package.record import Facts, Latency, read_record
from ortnas.export.package.sample import Sample
from ortnas.export.plain_texts import encode_texts
from ortnas.export.weights import SupernetFolder
from ortnas.nas.text import Example, encode, load_tokenizer
from ortnas.nas.training.checkpoint.reading import read_text_settings
from ortnas.nas.training.supernet import open_checkpoint
from tests import sentence_models
from tests.export.package.test_package import load_predict
from tests.export.packages import CASES, MAX_LENGTH, write_exported
from tests.networks import write_checkpoint

PYTHON = os.environ.get("ORTNAS_LOADERS_PYTHON", "")
needs_loaders = pytest.mark.skipif(
    not PYTHON, reason="ORTNAS_LOADERS_PYTHON names no interpreter with optimum-onnx and sentence-transformers"
)
CLASSES = {
    "embedding": "ORTModelForFeatureExtraction",
    "classification": "ORTModelForSequenceClassification",
    "multi-label": "ORTModelForSequenceClassification",
    "regression": "ORTModelForSequenceClassification",
    "reranking": "ORTModelForSequenceClassification",
    "token-classification": "ORTModelForTokenClassification",
    "span": "ORTModelForQuestionAnswering",
    "masked-lm": "ORTModelForMaskedLM",
}
OPTIMUM = """
import json, sys
import optimum.onnxruntime
from transformers import AutoTokenizer
folder, name, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = getattr(optimum.onnxruntime, name).from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer(*zip(*texts), padding=True, return_tensors="pt")
outputs = {key: value.tolist() for key, value in model(**inputs).items()}
print(json.dumps({"ids": inputs["input_ids"].tolist(), "mask": inputs["attention_mask"].tolist(),
                  "outputs": outputs, "labels": model.config.id2label}))
"""
SENTENCE_TRANSFORMERS = """
import json, sys
from sentence_transformers import SentenceTransformer
answers = []
for folder, backend in json.loads(sys.argv[1]):
    model = SentenceTransformer(folder, backend=backend)
    texts, names = json.loads(sys.argv[2]), (None, *model.prompts)
    outputs = [[name, model.encode(texts, prompt_name=name).tolist()] for name in names]
    answers.append({"outputs": outputs, "longest": model.max_seq_length, "similarity": model.similarity_fn_name})
print(json.dumps(answers))
"""
WRITER = Path(sentence_models.__file__).read_text(encoding="utf-8")


def answer_of(script: str, *arguments: str, python: str = PYTHON) -> Any:
    # Nothing is fetched: everything is in the package.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [python, "-c", script, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=CLASSES)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    head = request.param
    return write_exported(tmp_path_factory.mktemp("lader ä"), CASES[head], head, sentences)


@needs_loaders
def test_optimum_gives_the_tokens_and_outputs_that_we_give(package: Path, sentences: list[str]) -> None:
    record = read_record(package)
    head = record.head
    texts = [(sentences[0][:12], sentences[1][:9]), (sentences[2][:20], sentences[3][:14])]
    answer = answer_of(OPTIMUM, str(package), CLASSES[head], json.dumps(texts))
    encoded = encode(load_tokenizer(package), [Example(text, pair) for text, pair in texts], MAX_LENGTH)
    for row, mask, ids in zip(answer["ids"], answer["mask"], encoded.ids, strict=True):
        assert [token for token, shown in zip(row, mask, strict=True) if shown] == list(ids)
    outputs = [np.array(values) for values in answer["outputs"].values()]
    assert len(outputs) == (2 if head == "span" else 1)
    optimum_output = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)
    feeds = encoded.feeds(range(len(texts)))
    expected = run(load((package / "model.onnx").read_bytes()), feeds)
    if head == "embedding":
        optimum_output = optimum_output[:, 0]
    elif expected.ndim == 3:
        shown = feeds["attention_mask"] == 1
        optimum_output, expected = optimum_output[shown], expected[shown]
    np.testing.assert_allclose(optimum_output, expected, atol=1e-4)
    if list(record.labels):
        assert list(answer["labels"].values()) == list(record.labels)


@needs_loaders
def test_sentence_transformers_gives_our_embeddings(tmp_path: Path, sentences: list[str]) -> None:
    package = write_exported(tmp_path, "bert", "embedding", sentences)
    texts = [sentences[0][:12], " ".join(sentences[1:6])]
    (answer,) = answer_of(SENTENCE_TRANSFORMERS, json.dumps([[str(package), "onnx"]]), json.dumps(texts))
    encoded = encode(load_tokenizer(package), [Example(text) for text in texts], MAX_LENGTH)
    assert answer["longest"] == MAX_LENGTH == max(len(ids) for ids in encoded.ids)
    expected = run(load((package / "model.onnx").read_bytes()), encoded.feeds(range(len(texts))))
    np.testing.assert_allclose(answer["outputs"][0][1], expected, atol=1e-4)


TEXTS = ["he was in it", "The OF and", "they have this from one " * 30, "a"]


ACTIVATIONS = ("Sigmoid", "Identity")
PAIRS = list(itertools.pairwise(TEXTS))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """By case the folder that the library wrote and what it makes of the texts, in one interpreter."""
    folder, jobs = tmp_path_factory.mktemp("library"), []
    for head, cases, texts in (
        ("embedding", tuple(sentence_models.CASES), TEXTS),
        ("regression", ACTIVATIONS, PAIRS),
    ):
        base = sentence_models.settle_tokenizer(write_checkpoint(folder / head, "bert", head))
        jobs += [[case, str(base), str(folder / case), texts] for case in cases]
    answers = answer_of(WRITER, json.dumps(jobs))
    return {case: (Path(place), answer) for (case, _, place, _), answer in zip(jobs, answers, strict=True)}


@pytest.fixture(scope="module")
def packages(library: dict[str, tuple[Path, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """By case a float package of the folder, and what the library makes of it and of the extracted network."""
    folders, jobs = {}, []
    for case in sentence_models.CASES:
        folder = tmp_path_factory.mktemp("packages")
        folders[case], supernet = write_float_package(folder, library[case][0], "embedding")
        longest = read_record(folders[case]).max_length
        extract(supernet, supernet.dimensions.full_subnet, folder / "extracted", longest)
        jobs += [[str(folders[case]), "onnx"], [str(folder / "extracted"), "torch"]]
    answers = iter(answer_of(SENTENCE_TRANSFORMERS, json.dumps(jobs), json.dumps(TEXTS)))
    return {case: [folder, next(answers), next(answers)] for case, folder in folders.items()}


@needs_loaders
@pytest.mark.parametrize("case", sentence_models.CASES)
def test_a_folder_of_the_library_becomes_a_package_with_its_vectors(
    library: dict[str, tuple[Path, Any]], packages: dict[str, list[Any]], case: str
) -> None:
    """Its own, those of the package, those of the package in the library, and those of the extracted network."""
    (_, expected), (package, *loaded) = library[case], packages[case]
    model = load_predict(package).Model(package)
    for name, vectors in expected:
        np.testing.assert_allclose(model(TEXTS, name), vectors, atol=1e-5)
    settings = sentence_models.CASES[case][2]
    for answer in loaded:
        assert answer["similarity"] == settings.get("similarity_fn_name", "cosine")
        assert [name for name, _ in answer["outputs"]] == [name for name, _ in expected]
        for (_, ours), (_, theirs) in zip(answer["outputs"], expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@needs_loaders
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_cross_encoder_becomes_a_package_with_its_scores(
    library: dict[str, tuple[Path, Any]], tmp_path: Path, activation: str
) -> None:
    folder, scores = library[activation]
    package, _ = write_float_package(tmp_path, folder, "regression")
    model = load_predict(package).Model(package)
    np.testing.assert_allclose([model.describe(pair) for pair in PAIRS], scores, atol=1e-5)


def write_float_package(folder: Path, source: Path, head: str) -> tuple[Path, SupernetFolder]:
    """A package of the whole network in float32, as its folder says."""
    supernet = open_checkpoint(str(source), head, folder / "supernet")
    max_length = read_text_settings(str(source), head).max_length
    subnet, target = supernet.dimensions.full_subnet, Target(fingerprint(), Setup(), (Workload(1, 16, 100),))
    exporter = Exporter(supernet, recipe_named("avx512_vnni"), encode_texts(supernet, TEXTS, max_length))
    facts = Facts(precision="fp32", recipe=exporter.recipe, target=target, latency=Latency(1.0, 0.1))
    sample = Sample("mean_cosine", 1.0, [Example("a")])
    model = exporter.build(subnet, "fp32")
    write_package(folder / "package", PackageContent("name", model, supernet, subnet, max_length, sample, facts))
    return folder / "package", supernet


def test_packages_name_no_tokenizer_class_that_older_loaders_lack(tmp_path: Path, sentences: list[str]) -> None:
    package = write_exported(tmp_path, "bert", "classification", sentences)
    settings = json.loads((package / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    texts = [Example(text) for text in sentences[:8]]
    token_ids = AutoTokenizer.from_pretrained(package)([example.text for example in texts])["input_ids"]
    assert token_ids == [list(ids) for ids in encode(load_tokenizer(package), texts, 512).ids]
