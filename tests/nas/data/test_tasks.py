from __future__ import annotations

import os
from pathlib import Path

import pytest

from ortnas.nas.data import TASKS, Asked, DataError, DataSource, Sizes, Splits, find_task, guess_source, make_splits

NAMES = ("cola", "sst-2", "mrpc", "sts-b", "qqp", "mnli", "qnli", "rte", "wnli", "squad", "squad_v2")


def test_every_task_is_there_under_its_names() -> None:
    assert tuple(TASKS) == NAMES
    assert find_task("SST2") is find_task("sst_2") is TASKS["sst-2"]
    assert find_task("StsB").head == "regression"
    assert find_task("CoLA").metric == "matthews"
    assert find_task("SQuAD2") is find_task("squad-v2") is find_task("SQuAD2.0") is TASKS["squad_v2"]
    assert find_task("squad").name == "squad"


@pytest.mark.parametrize(("name", "hint"), [("sst-3", "did you mean 'sst-2'?"), ("imagenet", "Tasks are cola, sst-2")])
def test_unknown_tasks_name_the_known_ones(name: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"unknown task '{name}'") as failure:
        find_task(name)
    assert hint in str(failure.value)
    assert "wnli, squad" in str(failure.value)


# Headers and a row as the original distributions have them.
ORIGINALS = {
    "cola": ("", "gj04\t{label}\t*\t{text}"),
    "sst-2": ("sentence\tlabel", "{text} \t{label}"),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{label}\t702876\t702977\t{text}\tthe pair"),
    "sts-b": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tmain\tMSRvid\t2012\t1\tnone\tnone\t{text}\tthe pair\t{label}.250",
    ),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "133273\t213221\t213222\t{text}\tthe pair\t{label}"),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
        "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        "0\t31193\t31193n\tgovernment\t(\t(\t(\t(\t{text}\tthe pair\t9\t{label}",
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\t{text}\tthe pair\t{label}"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\t{text}\tthe pair\t{label}"),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\t{text}\tthe pair\t{label}"),
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_original_layouts_are_read_without_naming_columns(tmp_path: Path, name: str) -> None:
    task, (header, row) = TASKS[name], ORIGINALS[name]
    for part in (task.train_file, *task.report_files):
        rows = [row.format(text=f'{part} "text {number}', label=number % 2) for number in range(60)]
        (tmp_path / part).write_text("\n".join([header, *rows] if header else rows) + "\n", encoding="utf-8")
    splits = make_splits(DataSource(str(tmp_path), task=name.upper()), task.head, Sizes(4, 8, None), 0)
    assert list(splits.parts)[3:] == (["report", "report_mismatched"] if name == "mnli" else ["report"])
    assert [len(part) for part in splits.parts.values()][:4] == [48, 4, 8, 60]
    first = splits.report[0]
    assert first.text == f'{task.report_files[0]} "text 0'
    assert first.pair == (None if name in ("cola", "sst-2") else "the pair")
    assert first.label == (0.25 if name == "sts-b" else 0)
    assert splits.labels == (() if name == "sts-b" else ("0", "1"))
    assert splits.notes == ()


@pytest.mark.parametrize("name", [name for name in ORIGINALS if name != "cola"])
def test_original_headers_tell_head_and_columns_without_the_task(tmp_path: Path, name: str) -> None:
    task, (header, row) = TASKS[name], ORIGINALS[name]
    rows = [row.format(text=f"text {number}", label=number % 2) for number in range(60)]
    (tmp_path / "train.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    guess = guess_source(str(tmp_path), Asked())
    expected = {"text": task.text, "pair": task.pair, "label": task.label}
    assert guess[:2] == (task.head, {key: column for key, column in expected.items() if column})


def test_cola_without_its_task_has_no_header(tmp_path: Path) -> None:
    rows = [ORIGINALS["cola"][1].format(text=f"text {number}", label=number % 2) for number in range(60)]
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"seems to have no header.*or name the task if the file is that of cola$"):
        guess_source(str(tmp_path), Asked())


def real_splits(folder: str) -> Splits:
    data = os.environ.get("ORTNAS_DATA")
    if not data or not (Path(data) / "glue" / folder).is_dir():
        pytest.skip(f"ORTNAS_DATA names no folder with glue/{folder}")
    return make_splits(
        DataSource(str(Path(data) / "glue" / folder), task=folder), find_task(folder).head, Sizes(64, 256, None), 0
    )


# Rows used of the training file, rows of the dev sets and class names.
REAL = {
    "SST-2": (67_349, {"report": 872}, ("0", "1")),
    "CoLA": (8_551, {"report": 1_043}, ("0", "1")),
    "RTE": (2_489, {"report": 277}, ("entailment", "not_entailment")),
    "STS-B": (5_749, {"report": 1_500}, ()),
    "MNLI": (57_931, {"report": 9_815, "report_mismatched": 9_832}, ("contradiction", "entailment", "neutral")),
}


@pytest.mark.parametrize("folder", REAL)
def test_real_tasks_have_all_their_rows_in_disjoint_parts(folder: str) -> None:
    splits = real_splits(folder)
    rows, reports, labels = REAL[folder]
    assert splits.labels == labels
    assert {name: len(part) for name, part in splits.parts.items() if name.startswith("report")} == reports
    assert [len(splits.calibration), len(splits.search)] == [64, 256]
    own = [
        (example.text, example.pair) for name in ("training", "calibration", "search") for example in splits.parts[name]
    ]
    dev = {(example.text, example.pair) for name in reports for example in splits.parts[name]}
    assert len(set(own)) == len(own)
    assert dev.isdisjoint(own)
    repeated = [note for note in splits.notes if note.startswith("training: ")]
    assert len(own) + sum(int(note.split()[1].replace(",", "")) for note in repeated) == rows
    whole_first_texts = "the first text of others that are set aside, and are left out"
    assert all(f"of {rows:,} rows" in note or note.endswith(whole_first_texts) for note in repeated)
    # No first text is in two parts that were cut here.
    first_texts = [{example.text for example in splits.parts[name]} for name in ("training", "calibration", "search")]
    assert sum(map(len, first_texts)) == len(set().union(*first_texts))
    assert sum("left out: line 2166 has 5 fields where the header has 4" in note for note in splits.notes) == (
        folder == "RTE"
    )
