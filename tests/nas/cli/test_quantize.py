"""The command quantize from end to end: packages of real and random checkpoints, the gate, and what it refuses."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner

from ortnas.bench.timing import TimingProtocol
from ortnas.export.package import package as package_module
from ortnas.export.package.record import read_record
from ortnas.export.package.verify import verify
from ortnas.nas.cli import app
from ortnas.nas.stages import quantize as stage
from ortnas.nas.stages import quantize_gate, quantized_models
from tests.networks import WORDS, write_bert, write_checkpoint

pytestmark = pytest.mark.slow
# Of another architecture than this machine's.
FOREIGN_RECIPE = "arm64_dotprod" if platform.machine().lower() in ("x86_64", "amd64") else "avx2"


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is not what is tested here."""
    monkeypatch.setattr(quantized_models, "_PROTOCOL", TimingProtocol.fixed(6))
    monkeypatch.setattr(quantized_models, "_VISITS", 1)
    monkeypatch.setattr(quantize_gate, "_ROUNDS", 8)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n".join(sentences[:120]))
    return file


def ortnas(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def quantized(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    done = ortnas("quantize", *arguments, "--json")
    assert done.exit_code == status, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_real_weights_become_a_package_that_verifies_and_answers(bert_tiny: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    answer = quantized(bert_tiny, "--data", texts, "--out", out, "--with-fp32", "--max-loss", "5%")
    assert [row["kind"] for row in answer["rows"]] == ["fp32", "quantize_static", "int8"]
    by_kind = {row["kind"]: row for row in answer["rows"]}
    assert by_kind["int8"]["size_bytes"] < 0.3 * by_kind["fp32"]["size_bytes"]
    assert by_kind["fp32"]["scores"]["similarity_spearman"] == pytest.approx(1.0)
    assert (
        by_kind["int8"]["scores"]["similarity_spearman"] > by_kind["quantize_static"]["scores"]["similarity_spearman"]
    )
    assert answer["coverage"]["weight_integer_share"] > 0.99
    assert answer["gate"]["is_passed"]
    assert answer["texts"] == {
        "source": str(texts),
        "metric": "similarity_spearman",
        "calibration": 60,
        "scored": 60,
        "are_labelled": False,
        "are_shared": False,
    }
    assert answer["packages"] == [str(out), f"{out}-fp32"]
    for package, precision in zip(answer["packages"], ("int8", "fp32"), strict=True):
        record = read_record(Path(package))
        assert record.precision == precision
        assert record.provenance is not None
        assert record.provenance["command"] == "quantize"
        states = {check.name: check.state for check in verify(Path(package))}
        assert {name for name, state in states.items() if state == "fail"} <= {"latency"}
        assert states["score"] == states["tokenizer"] == "pass"
    card = (out / "README.md").read_text()
    assert "made without training" in card
    assert "60 texts of texts.txt" in card
    done = subprocess.run(
        [sys.executable, str(out / "predict.py"), "a text"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)


def labelled_file(folder: Path, head: str, sentences: list[str]) -> Path:
    texts = sentences[:80]
    if head == "token-classification":
        tags = ("O", "B-X", "I-X")
        blocks = ["\n".join(f"{word} {tags[n % 3]}" for n, word in enumerate(text.split())) for text in texts]
        (folder / "dev.txt").write_text("\n\n".join(blocks))
        return folder / "dev.txt"
    if head == "span":
        qas = [{"id": "1", "question": "what?", "answers": [{"text": WORDS[0], "answer_start": 0}]}]
        paragraphs = [{"context": f"{WORDS[0]} {text}", "qas": qas} for text in texts]
        (folder / "dev.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
        return folder / "dev.json"
    if head == "multi-label":
        rows = [
            json.dumps({"text": text, "labels": [["LABEL_0"], ["LABEL_1", "LABEL_2"], []][n % 3]})
            for n, text in enumerate(texts)
        ]
        (folder / "dev.jsonl").write_text("\n".join(rows))
        return folder / "dev.jsonl"
    if head == "reranking":
        rows = [f"{sentences[n]},{sentences[n + k]},{int(k == 1)}" for n in range(60) for k in (1, 2, 3)]
        (folder / "dev.csv").write_text("\n".join(["query,passage,grade", *rows]))
        return folder / "dev.csv"
    values = [n % 3 for n in range(80)] if head == "classification" else [n / 80 for n in range(80)]
    rows = [f"{text}\t{value}" for text, value in zip(texts, values, strict=True)]
    (folder / "dev.tsv").write_text("\n".join(["sentence\tlabel", *rows]))
    return folder / "dev.tsv"


@pytest.mark.parametrize(
    ("head", "family", "metric"),
    [
        ("classification", "bert", "accuracy"),
        ("multi-label", "bert", "micro_f1"),
        ("regression", "roberta", "pearson_spearman"),
        ("reranking", "bert", "ndcg_at_10"),
        ("token-classification", "distilbert", "entity_f1"),
        ("span", "electra", "span_f1"),
    ],
)
def test_heads_are_found_and_scored_by_their_labels(
    tmp_path: Path, sentences: list[str], head: str, family: str, metric: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family, head)
    if head == "token-classification":
        names(checkpoint, "O", "B-X", "I-X")
    # Pairs with numbers may be for either.
    said = ("--head", head) if head == "reranking" else ()
    data = labelled_file(tmp_path, head, sentences)
    answer = quantized(checkpoint, "--data", data, "--out", tmp_path / "out", *said)
    assert answer["head"] == head
    assert answer["texts"]["are_labelled"]
    assert answer["texts"]["metric"] == metric
    record = read_record(tmp_path / "out")
    assert record.report.keys() >= {metric}
    assert record.report_size == answer["texts"]["scored"]
    states = {check.name: check.state for check in verify(tmp_path / "out")}
    assert states["score"] == states["tokenizer"] == "pass"


def names(checkpoint: Path, *labels: str) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    by_row = {str(row): label for row, label in enumerate(labels)}
    config |= {"id2label": by_row, "label2id": {label: int(row) for row, label in by_row.items()}}
    (checkpoint / "config.json").write_text(json.dumps(config))


def test_rows_of_a_classifier_stay_as_they_are_and_labels_are_matched_by_name(
    tmp_path: Path, sentences: list[str]
) -> None:
    checkpoint = write_bert(tmp_path / "checkpoint", num_labels=3)
    names(checkpoint, "zebra", "ape", "none")
    rows = [f"{text}\t{('Ape', 'Zebra')[n % 2]}" for n, text in enumerate(sentences[:60])]
    data = tmp_path / "dev.tsv"
    data.write_text("\n".join(["sentence\tlabel", *rows]))
    answer = quantized(checkpoint, "--data", data, "--out", tmp_path / "out")
    assert answer["labels"] == ["zebra", "ape", "none"]
    labels = {example["label"] for example in json.loads((tmp_path / "out" / "sample.json").read_text())["examples"]}
    assert labels == {0, 1}
    data.write_text(data.read_text().replace("Ape", "monkey"))
    done = ortnas("quantize", checkpoint, "--data", data, "--out", tmp_path / "other")
    assert done.exit_code == 1
    assert "the labels of the data are" in done.stderr
    assert not (tmp_path / "other").exists()


def test_without_labels_the_float_model_is_right(tmp_path: Path, texts: Path) -> None:
    checkpoint = write_bert(tmp_path / "checkpoint", num_labels=3)
    answer = quantized(checkpoint, "--data", texts, "--out", tmp_path / "out")
    assert answer["head"] == "classification"
    assert not answer["texts"]["are_labelled"]
    assert answer["rows"][0]["scores"]["accuracy"] == 1.0
    # Agreement with itself is no score of the model's.
    assert read_record(tmp_path / "out").report == {}


def test_masks_are_labels_of_any_text(tmp_path: Path, texts: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "bert", "masked-lm")
    answer = quantized(checkpoint, "--data", texts, "--out", tmp_path / "out", "--head", "masked-lm")
    assert answer["texts"]["metric"] == "masked_accuracy"
    assert answer["texts"]["are_labelled"]


@pytest.mark.parametrize(
    ("options", "names", "shape", "state"),
    [
        (("--shapes", "2x16"), ("input_ids", "attention_mask", "token_type_ids"), (2, 16), {"fixed": True}),
        (("--no-mask",), ("input_ids", "token_type_ids"), ("batch", "sequence"), {"mask": False}),
    ],
)
def test_a_model_takes_the_requests_that_are_asked_for(
    bert_folder: Path,
    texts: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    names: tuple[str, ...],
    shape: tuple[int | str, int | str],
    state: dict[str, bool],
) -> None:
    out = tmp_path / "out"
    answer = quantized(bert_folder, "--data", texts, "--out", out, "--attention", "integer", *options)
    assert [row["kind"] for row in answer["rows"]] == ["fp32", "quantize_static", "int8"]
    (workload,) = answer["target"]["workloads"]
    assert state.items() <= workload.items()
    inputs = onnx.load(out / "model.onnx").graph.input
    assert tuple(item.name for item in inputs) == names
    for item in inputs:
        assert tuple(axis.dim_param or axis.dim_value for axis in item.type.tensor_type.shape.dim) == shape
    record = read_record(out)
    assert record.recipe.attention == "integer"
    assert record.coverage.integer_share is not None
    assert record.coverage.integer_share > 0.99
    states = {check.name: check.state for check in verify(out)}
    assert states["score"] == states["tokenizer"] == "pass"


def test_without_texts_it_says_what_that_risks(bert_folder: Path, tmp_path: Path) -> None:
    done = ortnas("quantize", bert_folder, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "warning: no --data: ranges are measured on a few built-in sentences" in done.stdout
    assert "| INT8 by ortnas" in done.stdout
    assert "next: ortnas init out.yaml --checkpoint" in done.stdout
    assert "--data TEXTS && ortnas run out.yaml --minutes 60" in done.stdout
    assert read_record(tmp_path / "out").calibration == "built-in sentences"


def test_a_gate_that_is_not_passed_names_products_and_leaves_what_was_there(
    bert_folder: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    whole = quantized(bert_folder, "--data", texts, "--out", out)
    loss = -whole["rows"][-1]["to_fp32"]["value"]
    assert loss > 0
    before = (out / "ortnas.json").read_bytes()
    done = ortnas("quantize", bert_folder, "--data", texts, "--out", out, "--max-loss", f"{0.9 * loss:.9f}")
    assert done.exit_code == 3
    assert "not passed: INT8 loses" in done.stdout
    assert "no package is written" in done.stdout
    assert "to blame: " in done.stdout
    assert (out / "ortnas.json").read_bytes() == before
    following = done.stdout.rpartition("next: ")[2].split()
    assert following[:2] == ["ortnas", "quantize"]
    passed = ortnas(*following[1:])
    assert passed.exit_code == 0, passed.stdout
    assert "passed: INT8 loses" in passed.stdout
    record = read_record(out)
    assert record.recipe.keep_float
    assert set(record.coverage.float_weight_products or ()) >= set(record.recipe.keep_float)


def test_nothing_may_be_lost_and_something_is(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    arguments = (bert_folder, "--data", texts, "--out", tmp_path / "out", "--max-loss", "0%")
    answer = quantized(*arguments, status=3)
    assert not answer["gate"]["is_passed"]
    assert answer["gate"]["blamed"]
    assert answer["packages"] == []
    assert not (tmp_path / "out").exists()


def test_an_interruption_leaves_no_half_package(
    bert_folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    for module, function in ((stage, "time_in_turn"), (package_module, "write_sample")):
        with monkeypatch.context() as patch:
            patch.setattr(module, function, interrupt)
            done = ortnas("quantize", bert_folder, "--data", texts, "--out", tmp_path / "out")
        assert done.exit_code == 130
        assert "no package was written" in done.stderr
        assert not list(tmp_path.iterdir())


def test_only_earlier_packages_of_its_own_are_replaced(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):
        quantized(bert_folder, "--data", texts, "--out", out)
    (out / "mine.txt").write_text("precious")
    refused(out, "holds mine.txt too", bert_folder, "--data", texts)
    (out / "mine.txt").unlink()
    record = json.loads((out / "ortnas.json").read_text())
    del record["provenance"]["command"]
    (out / "ortnas.json").write_text(json.dumps(record))
    refused(out, "is a package of another command", bert_folder, "--data", texts)
    shutil.rmtree(out)
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    refused(out, "is not empty, and no package", bert_folder, "--data", texts)
    refused(out / "mine.txt", "is a file", bert_folder, "--data", texts)
    assert (out / "mine.txt").read_text() == "precious"


def refused(out: Path, reason: str, *arguments: str | Path) -> None:
    done = ortnas("quantize", *arguments, "--out", out)
    assert done.exit_code == 1
    errors = [line for line in done.stderr.strip().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert reason in errors[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--data", "nowhere.txt"), "no such file or folder"),
        (("--head", "classification"), "`ortnas run` trains one and makes the package"),
        (("--head", "ranks"), "there is no head 'ranks'"),
        (("--task", "sst-3"), "unknown task 'sst-3'"),
        (("--recipe", "avx9"), "--recipe: unknown quantization recipe"),
        (("--recipe", FOREIGN_RECIPE), f"--recipe: '{FOREIGN_RECIPE}' is for "),
        (("--keep-float", "nothing/*"), "--keep-float: 'nothing/*' fits no weight product"),
        (("--max-length", "4000"), "--max-length 4000: the checkpoint has 40 positions"),
        (("--shapes", "1x4000"), "--shapes 4000: the checkpoint has 40 positions"),
        (
            ("--shapes", "1x16", "--max-length", "20"),
            "--max-length 20: the model takes requests of 1 x 16 tokens alone",
        ),
        (("--shapes", "1x16", "--sequence", "20"), "--sequence 20: --shapes has it timed with 1 x 16 tokens"),
        (("--shapes", "1x16", "--no-mask"), "--no-mask: texts of less than 16 tokens are padded to --shapes"),
        (("--head", "late-interaction", "--no-mask"), "--no-mask: head 'late-interaction' fills queries up"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    bert_folder: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    refused(tmp_path / "out", reason, bert_folder, *arguments)
    assert not (tmp_path / "out").exists()


def test_a_bare_encoder_is_no_classifier_because_its_texts_have_labels(
    bert_folder: Path, tmp_path: Path, sentences: list[str]
) -> None:
    labelled_file(tmp_path, "classification", sentences).rename(tmp_path / "train.tsv")
    shutil.copy(tmp_path / "train.tsv", tmp_path / "dev.tsv")
    refused(tmp_path / "out", "has no trained head for classification", bert_folder, "--data", tmp_path)


@pytest.mark.parametrize("shape", ["128", "1x", "x128", "0x128", "1x4", "1x128x3", "-1x128", "1x1e2", "4096x65536"])
def test_a_shape_is_a_batch_and_tokens(bert_folder: Path, tmp_path: Path, shape: str) -> None:
    done = ortnas("quantize", bert_folder, "--out", tmp_path / "out", f"--shapes={shape}")
    assert done.exit_code == 2
    assert "--shapes" in done.stderr


@pytest.mark.parametrize("bound", ["much", "-1%", "101%", "2", "nan"])
def test_a_bound_is_a_share_of_texts(bert_folder: Path, texts: Path, tmp_path: Path, bound: str) -> None:
    done = ortnas("quantize", bert_folder, "--data", texts, "--out", tmp_path / "out", f"--max-loss={bound}")
    assert done.exit_code == 2
    assert "is no share" in done.stderr
    assert ortnas("quantize", bert_folder, "--out", tmp_path / "out", "--max-loss", "1%").exit_code == 2
