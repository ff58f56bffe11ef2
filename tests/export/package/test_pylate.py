"""Packages of late interaction against PyLate itself, in an interpreter that has it: ``make test-loaders``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ortnas.export.inference import model_outputs
from ortnas.export.retrieval import reciprocal_ranks_at_10
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import Example
from ortnas.nas.training.checkpoint.reading import read_text_settings
from tests import late_models
from tests.export.package.test_loaders import TEXTS, answer_of, write_float_package
from tests.export.package.test_package import load_predict
from tests.networks import write_checkpoint
from tests.sentence_models import settle_tokenizer

PYTHON = os.environ.get("ORTNAS_PYLATE_PYTHON", "")
WRITER = Path(late_models.__file__).read_text(encoding="utf-8")


@pytest.mark.skipif(not PYTHON, reason="ORTNAS_PYLATE_PYTHON names no interpreter with PyLate")
def test_packages_and_judged_pairs_have_the_librarys_vectors_and_scores(tmp_path: Path) -> None:
    base = settle_tokenizer(write_checkpoint(tmp_path / "base", "bert"))
    jobs = [(case, str(base), str(tmp_path / case), TEXTS) for case in late_models.CASES]
    answers = answer_of(WRITER, json.dumps(jobs), python=PYTHON)
    for (case, _, folder, _), (queries, documents, scores) in zip(jobs, answers, strict=True):
        package, _ = write_float_package(tmp_path / f"package of {case}", Path(folder), "late-interaction")
        model = load_predict(package).Model(package)
        for text, as_query, as_document in zip(TEXTS, queries, documents, strict=True):
            np.testing.assert_allclose(model.vectors(f"[Q] {text}", is_query=True)[1], as_query, atol=1e-5)
            np.testing.assert_allclose(model.vectors(f"[D] {text}")[1], as_document, atol=1e-5)
        for text, expected in zip(TEXTS, scores, strict=True):
            ranked = dict(map(tuple, model.maxsim(text, *TEXTS)))
            np.testing.assert_allclose([ranked[passage] for passage in TEXTS], expected, atol=1e-4)
        settings = read_text_settings(folder, "late-interaction")
        assert settings.late is not None
        asked = range(len(TEXTS))
        examples = settings.late.with_prompts([Example(text) for text in [*TEXTS, *TEXTS]], asked)
        encoded = settings.late.encode(settings.tokenizer.backend, examples, asked, settings.max_length)
        outputs = model_outputs((package / "model.onnx").read_bytes(), encoded, "late-interaction")
        for ours, theirs in zip(outputs, [*queries, *documents], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        rows = tuple(len(TEXTS) + row for row in asked)
        ranks = reciprocal_ranks_at_10(outputs, Judgements(tuple(asked), rows, (1.0,) * len(TEXTS), rows))
        order = np.argsort(-np.array(scores), axis=1, kind="stable")
        np.testing.assert_allclose(ranks, [1 / (list(row).index(number) + 1) for number, row in enumerate(order)])
