"""Packages in other people's loaders, in an interpreter that has them: ``make test-loaders``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from ortnas.export.inference import load, run
from ortnas.export.package.record import read_record
from ortnas.nas.text import Example, encode, load_tokenizer
from tests.export.packages import CASES, MAX_LENGTH, write_exported

PYTHON = os.environ.get("ORTNAS_LOADERS_PYTHON", "")
needs_loaders = pytest.mark.skipif(
    not PYTHON, reason="ORTNAS_LOADERS_PYTHON names no interpreter with optimum-onnx and sentence-transformers"
)
CLASSES = {
    "embedding": "ORTModelForFeatureExtraction",
    "classification": "ORTModelForSequenceClassification",
    "regression": "ORTModelForSequenceClassification",
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
model = SentenceTransformer(sys.argv[1], backend="onnx")
print(json.dumps({"embeddings": model.encode(json.loads(sys.argv[2])).tolist(), "longest": model.max_seq_length}))
"""


def answer_of(script: str, *arguments: str) -> Any:
    # Nothing is fetched: everything is in the package.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [PYTHON, "-c", script, *arguments]
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
    answer = answer_of(SENTENCE_TRANSFORMERS, str(package), json.dumps(texts))
    encoded = encode(load_tokenizer(package), [Example(text) for text in texts], MAX_LENGTH)
    assert answer["longest"] == MAX_LENGTH == max(len(ids) for ids in encoded.ids)
    expected = run(load((package / "model.onnx").read_bytes()), encoded.feeds(range(len(texts))))
    np.testing.assert_allclose(answer["embeddings"], expected, atol=1e-4)


def test_packages_name_no_tokenizer_class_that_older_loaders_lack(tmp_path: Path, sentences: list[str]) -> None:
    package = write_exported(tmp_path, "bert", "classification", sentences)
    settings = json.loads((package / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    texts = [Example(text) for text in sentences[:8]]
    token_ids = AutoTokenizer.from_pretrained(package)([example.text for example in texts])["input_ids"]
    assert token_ids == [list(ids) for ids in encode(load_tokenizer(package), texts, 512).ids]
