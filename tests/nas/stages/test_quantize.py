"""What quantize does with heads, labels and rivals that are not as usual."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.timing import TimingProtocol
from ortnas.export.int8.static_defaults import StaticDefaultsError
from ortnas.export.package.record import read_record
from ortnas.export.package.verify import verify
from ortnas.nas.console import Console
from ortnas.nas.data import Asked
from ortnas.nas.failures import DataError
from ortnas.nas.stages import quantized_models
from ortnas.nas.stages.defaults_process import DefaultsProcess
from ortnas.nas.stages.quantize import Order, quantize
from ortnas.nas.stages.quantize_gate import Gate
from ortnas.nas.stages.quantize_texts import TextChoice, choose_head
from tests.nas.training.checkpoint.test_late_interaction import write_late_interaction
from tests.networks import WORDS, write_bert, write_checkpoint


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized_models, "_PROTOCOL", TimingProtocol.fixed(6))
    monkeypatch.setattr(quantized_models, "_VISITS", 1)


def head_of(checkpoint: Path, source: Path | None = None, head: str | None = None, task: str | None = None) -> str:
    choice = TextChoice(None if source is None else str(source), Asked(head), task)
    return choose_head(str(checkpoint), choice, Console(to_stderr=True))[0]


def test_the_head_is_asked_for_or_the_checkpoints_own_or_what_the_data_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("labelled", "scored"):
        (tmp_path / folder).mkdir()
        for name in ("train.tsv", "dev.tsv"):
            rows = [f"a text {n}\tanother {n}\t{n % 2 if folder == 'labelled' else n / 7}" for n in range(40)]
            (tmp_path / folder / name).write_text("\n".join(["sentence1\tsentence2\tlabel", *rows]))
    (tmp_path / "texts.txt").write_text("a text\nanother text\n")
    bare = write_bert(tmp_path / "bare")
    classifier = write_checkpoint(tmp_path / "classifier", "bert", "classification")
    assert head_of(classifier) == "classification"
    assert head_of(classifier, tmp_path / "texts.txt") == "classification"
    assert head_of(classifier, head="embedding") == "embedding"
    assert head_of(classifier, tmp_path / "labelled", task="mnli") == "classification"
    assert "assumed" not in capsys.readouterr().err
    assert head_of(bare, tmp_path / "labelled") == "classification"
    assert head_of(bare, tmp_path / "scored") == "regression"
    assert head_of(bare, tmp_path / "texts.txt") == "embedding"
    assert head_of(bare) == "embedding"
    assert "note: the checkpoint names no task; head embedding is assumed" in capsys.readouterr().err
    with pytest.raises(DataError, match="no such file or folder"):
        head_of(bare, tmp_path / "none.txt")
    with pytest.raises(DataError, match="there is no head 'none'"):
        head_of(bare, head="none")


def test_rounding_of_the_score_is_no_loss() -> None:
    assert Gate(0.0, 1e-12).is_passed
    assert Gate(0.0, -0.1).is_passed
    assert not Gate(0.005, 0.0051).is_passed


@pytest.mark.slow
def test_scored_pairs_decide_where_there_are_some(bert_tiny: Path, tmp_path: Path, brief: None) -> None:
    for name in ("train.tsv", "dev.tsv"):
        others = [f"{name} has {n} {'cats and dogs' if n % 2 else 'empty boxes'} here" for n in range(60)]
        rows = [f"{name} has {n} cats and dogs\t{others[n]}\t{n % 2 * 4 + n / 100}" for n in range(60)]
        (tmp_path / name).write_text("\n".join(["sentence1\tsentence2\tscore", *rows]))
    order = Order(str(bert_tiny), TextChoice(str(tmp_path), Asked("embedding"), "sts-b"), tmp_path / "out")
    result = quantize(order, Console(to_stderr=True))
    assert result["texts"]["metric"] == "spearman"
    assert result["texts"]["are_labelled"]
    assert result["texts"]["scored"] == 60
    record = read_record(tmp_path / "out")
    assert record.judged == "60 scored pairs"
    assert record.report.keys() == {"spearman"}
    # A few pairs say nothing: the bundled sample is compared with the float model's embeddings.
    assert json.loads((tmp_path / "out" / "sample.json").read_text())["metric"] == "similarity_spearman"


@pytest.mark.slow
def test_late_interaction_is_scored_by_the_queries_of_a_table(tmp_path: Path, brief: None) -> None:
    checkpoint = write_late_interaction(tmp_path / "checkpoint")
    rng = random.Random(0)
    # The last words of the vocabulary are no tokens of the folder's.
    asked = [rng.sample(WORDS[:-2], 8) for _ in range(330)]
    rows = [{"query": " ".join(words), "document": " ".join(words[::-1])} for words in asked]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    source = TextChoice(str(tmp_path / "texts.jsonl"), Asked("late-interaction"))
    result = quantize(Order(str(checkpoint), source, tmp_path / "out"), Console(to_stderr=True))
    assert result["texts"]["metric"] == "recall_at_1"
    assert {*result["rows"][0]["scores"]} == {"recall_at_1", "mrr_at_10", "ndcg_at_10"}
    record = read_record(tmp_path / "out")
    assert record.judged is not None
    assert record.judged.startswith("20 queries among")
    sample = json.loads((tmp_path / "out" / "sample.json").read_text())
    assert sample["metric"] == "maxsim_spearman"
    assert all(example["text"].startswith("[D] ") for example in sample["examples"])
    (check,) = [item for item in verify(tmp_path / "out") if item.name == "score"]
    assert check.state == "pass"


@pytest.mark.slow
def test_labels_without_names_are_found_out_or_refused(tmp_path: Path, brief: None, sentences: list[str]) -> None:
    checkpoint = write_bert(tmp_path / "checkpoint", num_labels=3)
    rows = [f"{text}\t{('no', 'yes', 'maybe')[n % 3]}" for n, text in enumerate(sentences[:120])]
    (tmp_path / "dev.tsv").write_text("\n".join(["sentence\tlabel", *rows]))
    order = Order(str(checkpoint), TextChoice(str(tmp_path / "dev.tsv"), Asked()), tmp_path / "out")
    with pytest.raises(Exception, match=r"does not name its 3 labels.*rename them in the data"):
        quantize(order, Console(to_stderr=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_quantize_static_cannot_take_is_left_out(
    bert_folder: Path,
    tmp_path: Path,
    brief: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def give_up(*_: Any) -> None:
        raise StaticDefaultsError("quantize_static gives up: no reason")

    monkeypatch.setattr(DefaultsProcess, "answer", give_up)
    result = quantize(Order(str(bert_folder), TextChoice(None, Asked()), tmp_path / "out"), Console(to_stderr=True))
    assert [row["kind"] for row in result["rows"]] == ["fp32", "int8"]
    assert "warning: no comparison with quantize_static's defaults: quantize_static gives up" in capsys.readouterr().err
