from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ortnas.bench.session import ONNXRUNTIME, OPENVINO, RUNTIMES, Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.int8.recipes import Recipe, recipe_named
from ortnas.export.metrics import token_accuracy
from ortnas.export.part import Part
from ortnas.export.weights import SupernetFolder
from ortnas.nas.console import Console
from ortnas.nas.data import DataError
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.run.models import Models, searched_products
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import data as show_data
from ortnas.nas.stages.commands import train
from ortnas.nas.text import IGNORED
from ortnas.search.intervals import score_intervals
from tests.networks import make_dimensions, make_space, write_bert


def open_run(folder: Path, source: Path, bert: Path, **changes: Any) -> Run:
    data = {"source": str(source), "calibration_size": 10, "search_size": 20, "report_size": 20}
    document = {"checkpoint": str(bert), "head": "embedding", "folder": str(folder / "run"), "data": data}
    return Run(check_configuration(document | changes, "test"), Console(to_stderr=True))


def digest_of(run: Run) -> str:
    try:
        return run.texts.data.digest
    finally:
        run.close()


@pytest.fixture
def corpus(tmp_path: Path, sentences: list[str]) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(sentences))
    return path


def test_recorded_splits_outlive_their_source(tmp_path: Path, corpus: Path, bert_folder: Path) -> None:
    first = digest_of(open_run(tmp_path, corpus, bert_folder))
    corpus.unlink()
    assert digest_of(open_run(tmp_path, corpus, bert_folder)) == first


def test_recorded_splits_do_not_stand_in_for_another_source_or_seed(
    tmp_path: Path, corpus: Path, bert_folder: Path
) -> None:
    assert digest_of(open_run(tmp_path, corpus, bert_folder))
    with pytest.raises(DataError, match="no such file"):
        digest_of(open_run(tmp_path, tmp_path / "corpus.text", bert_folder))
    corpus.unlink()
    with pytest.raises(DataError, match="no such file"):
        digest_of(open_run(tmp_path, corpus, bert_folder, seed=1))


@pytest.mark.parametrize(
    ("export", "problem"),
    [
        ({"shapes": [1, 8]}, r"texts have up to 40 tokens \(data.max_length\), and the model takes 8; set data.max_"),
        ({"shapes": [1, 128], "mask": False}, r"the calibration part has texts of \d+ tokens, which are padded to 128"),
    ],
)
def test_texts_that_do_not_fit_fixed_shapes_are_refused_before_training(
    tmp_path: Path, corpus: Path, bert_folder: Path, export: dict[str, Any], problem: str
) -> None:
    target = {"sequence": export["shapes"][1], "lengths": "full"}
    run = open_run(tmp_path, corpus, bert_folder, export=export, target=target)
    try:
        for stage in (show_data, train):
            with pytest.raises(ConfigurationError, match=problem):
                stage(run)
    finally:
        run.close()


def test_what_requests_models_take_is_part_of_the_target(tmp_path: Path, corpus: Path, bert_folder: Path) -> None:
    """Timings, predictors and packages are found by its hash."""

    def target_of(**changes: Any) -> Target:
        run = open_run(tmp_path, corpus, bert_folder, **changes)
        try:
            return run.target.of(make_dimensions(max_positions=128))
        finally:
            run.close()

    usual = target_of()
    fixed, unmasked = target_of(export={"shapes": [1, 128]}), target_of(export={"mask": False})
    assert "fixed" not in usual.to_json()["workloads"][0]
    assert len({usual.hash, fixed.hash, unmasked.hash}) == 3
    assert usual.differences(fixed) == ["fixed: True, here None"]
    assert usual.workloads[0].lengths
    assert unmasked.workloads[0].lengths == ()
    assert Target.from_json(fixed.to_json()) == fixed
    assert Target.from_json(unmasked.to_json()) == unmasked


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_only_onnxruntime_is_given_its_own_operators(
    tmp_path: Path, corpus: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    run = open_run(tmp_path, corpus, bert_folder, export={"mask": False})
    dimensions = make_dimensions(max_positions=128)
    setup = Setup.for_openvino() if runtime == OPENVINO else Setup()
    monkeypatch.setattr(Models, "target", Target({"isa": []}, setup, (Workload(),)))
    supernet = SupernetFolder(tmp_path, dimensions, make_space(), {}, (), {}, "")
    monkeypatch.setattr(Models, "teacher", supernet)
    monkeypatch.setattr(Models, "calibration", [])
    try:
        exporter = run.models.exporter_of(supernet)
    finally:
        run.close()
    assert exporter.fuses_attention == (runtime == ONNXRUNTIME)
    assert not exporter.inputs.mask


def test_the_recipe_is_the_hosts_or_named_with_what_is_configured_otherwise(
    tmp_path: Path, corpus: Path, bert_folder: Path
) -> None:
    def recipe_of(**settings: Any) -> Recipe:
        run = open_run(tmp_path, corpus, bert_folder, quantization=settings)
        run.models.__dict__["teacher"] = SimpleNamespace(dimensions=make_dimensions(max_positions=128))
        try:
            return run.models.recipe
        finally:
            run.close()

    settings = {"per_channel": False, "embeddings": False, "attention": "scores", "keep_float": ("layers/2/ffn/*",)}
    assert recipe_of(recipe="generic", **settings) == replace(recipe_named("generic"), **settings)
    with pytest.raises(ConfigurationError, match=r"'layers/3/ffn/out' fits no weight product; .* layers/0/attention"):
        recipe_of(recipe="generic", keep_float=("layers/3/ffn/out",))
    with pytest.raises(ConfigurationError, match=r"quantization\.recipe: unknown"):
        recipe_of(recipe="sse")


def test_a_search_decides_about_products_that_are_not_in_float_anyway() -> None:
    dimensions, recipe = make_dimensions(), recipe_named("avx2")
    every = searched_products(dimensions, recipe)
    assert len(every) == 3 * 6
    assert searched_products(dimensions, replace(recipe, keep_float=("layers/1/*", "head/*"))) == [
        name for name in every if not name.startswith("layers/1/")
    ]
    with pytest.raises(ConfigurationError, match=r"space\.keep_float = 'search': quantization\.keep_float leaves all"):
        searched_products(dimensions, replace(recipe, keep_float=("layers/*",)))


def test_a_changed_source_or_seed_makes_new_splits(tmp_path: Path, corpus: Path, bert_folder: Path) -> None:
    first = digest_of(open_run(tmp_path, corpus, bert_folder))
    assert digest_of(open_run(tmp_path, corpus, bert_folder)) == first
    second = digest_of(open_run(tmp_path, corpus, bert_folder, seed=1))
    corpus.write_text(corpus.read_text() + "\none more sentence that was not there before\n")
    assert len({first, second, digest_of(open_run(tmp_path, corpus, bert_folder))}) == 3


def test_one_run_folder_serves_one_command_at_a_time(tmp_path: Path, corpus: Path, bert_folder: Path) -> None:
    first = open_run(tmp_path, corpus, bert_folder)
    with pytest.raises(ConfigurationError, match="another ortnas command is at work in it"):
        open_run(tmp_path, corpus, bert_folder)
    first.close()
    open_run(tmp_path, corpus, bert_folder).close()


def test_the_tokenizer_follows_the_checkpoint_and_outlives_it(tmp_path: Path, corpus: Path) -> None:
    bert = write_bert(tmp_path / "bert")
    run = open_run(tmp_path, corpus, bert)
    first = (run.texts.tokenizer_folder / "tokenizer.json").read_text()
    run.close()
    write_bert(bert, vocabulary=("zebra",))
    run = open_run(tmp_path, corpus, bert)
    second = (run.texts.tokenizer_folder / "tokenizer.json").read_text()
    run.close()
    assert "zebra" in second
    assert "zebra" not in first
    shutil.rmtree(bert)
    run = open_run(tmp_path, corpus, bert)
    assert (run.texts.tokenizer_folder / "tokenizer.json").read_text() == second
    run.close()


def test_a_corpus_is_masked_once_for_scoring_and_anew_for_training(
    tmp_path: Path, corpus: Path, bert_folder: Path
) -> None:
    data = {"source": str(corpus), "calibration_size": 4, "search_size": 8, "report_size": 8, "max_length": 24}
    run = open_run(tmp_path, corpus, bert_folder, head="masked-lm", data=data)
    first, again = run.texts.data.held_out("search"), run.texts.data._masked("search")
    assert first.ids == again.ids
    assert first.labels == again.labels
    share = sum(tag != IGNORED for row in first.labels or () for tag in row) / first.lengths.sum()
    assert 0.05 < share < 0.3
    assert run.texts.data.encoded("training").label_array([0]) is None
    assert run.texts.data.masking is not None
    run.close()


def write_tags(folder: Path, first: str, other: str, words: int = 3) -> Path:
    """A folder of CoNLL files in which the words of every sentence carry two tags in turn."""
    folder.mkdir()
    for name, count in (("train", 120), ("dev", 30)):
        sentences = [
            "\n".join(f"{name}{row}x{word} {(first, other)[word % 2]}" for word in range(words)) for row in range(count)
        ]
        (folder / f"{name}.txt").write_text("\n\n".join(sentences))
    return folder


@pytest.mark.parametrize(
    ("tags", "metric"),
    [(("B-PER", "O"), "entity_f1"), (("PER", "O"), "entity_f1"), (("DET", "NOUN"), "token_accuracy")],
)
def test_the_metric_of_tags_follows_their_scheme(
    tmp_path: Path, bert_folder: Path, tags: tuple[str, str], metric: str
) -> None:
    source = write_tags(tmp_path / "tags", *tags)
    run = open_run(tmp_path, source, bert_folder, head="token-classification")
    assert run.texts.metric == metric
    run.close()
    asked = open_run(tmp_path, source, bert_folder, head="token-classification", search={"metric": "entity_f1"})
    if metric == "entity_f1":
        assert asked.texts.metric == metric
    else:
        with pytest.raises(ConfigurationError, match="'entity_f1': the tags follow no scheme of entities"):
            asked.texts.metric  # noqa: B018
    asked.close()


def test_words_beyond_the_longest_length_are_told_and_count_as_missed(
    tmp_path: Path, bert_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_tags(tmp_path / "tags", "B-PER", "O", words=20)
    sizes = {"source": str(source), "calibration_size": 10, "search_size": 20, "max_length": 16}
    run = open_run(tmp_path, source, bert_folder, head="token-classification", data=sizes)
    facts = show_data(run)["parts"]["report"]
    part = Part(run.texts.data.held_out("report"), run.texts.data.examples("report"), run.texts.data.labels)
    run.close()
    assert part.encoded.labels is not None
    kept = [[label for label in labels if label != IGNORED] for labels in part.encoded.labels]
    total = 30 * 20
    assert 0 < facts["words_cut_off"] == total - sum(map(len, kept)) < total
    assert f"report: {facts['words_cut_off']} words lie beyond data.max_length = 16" in capsys.readouterr().err
    right = [np.eye(2, dtype=np.float32)[[max(label, 0) for label in labels]] for labels in part.encoded.labels]
    assert token_accuracy(right, part) == pytest.approx(sum(map(len, kept)) / total)
    intervals = score_intervals("token_accuracy", {"right": right}, part, "right")["right"].score
    assert intervals.low <= intervals.value == token_accuracy(right, part) <= intervals.high < 1
