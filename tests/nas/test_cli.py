"""The command line in processes of its own, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

LAZY = ("torch", "transformers", "onnxruntime", "onnx", "xgboost", "pydantic", "scipy", "numpy")


def ortnas(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nas.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def write_run(folder: Path, checkpoint: Path, data: str, **sections: object) -> Path:
    document = {
        "checkpoint": str(checkpoint),
        "head": "embedding",
        "folder": str(folder / "run"),
        "data": {"source": data, "max_length": 16, "calibration_size": 16, "search_size": 32, "report_size": 32},
        "training": {"steps": 2, "batch_size": 8},
        "target": {"sequence": 16},
        **sections,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    return path


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nimport nas.cli\nsys.argv = ['ortnas', '--help']\n"
        "try:\n    nas.cli.app()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {LAZY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "verify" in done.stdout
    assert done.stdout.rstrip().endswith("LOADED []")
    # The quickest of several, so that a busy machine does not fail a quick program.
    times = []
    for _ in range(12):
        start = time.perf_counter()
        assert ortnas("--help").returncode == 0
        times.append(time.perf_counter() - start)
        if times[-1] < 0.3:
            break
    assert min(times) < 0.3


@pytest.mark.parametrize(
    "command",
    ["init", "data", "train", "bench", "fit", "search", "export", "extract", "sensitivity", "inspect", "verify", "run"],
)
def test_every_verb_explains_itself(command: str) -> None:
    done = ortnas(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout or command == "init"


def test_wrong_usage_and_bad_input_have_their_own_status(tmp_path: Path) -> None:
    assert ortnas("serch").returncode == 2
    assert ortnas("run", tmp_path / "none.yaml", "--set", "steps").returncode == 2
    done = ortnas("run", tmp_path / "none.yaml")
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {tmp_path / 'none.yaml'}: no such file; `ortnas init` writes one"


def test_init_writes_what_run_reads(tmp_path: Path) -> None:
    done = ortnas(
        "init", "mine.yaml", "--checkpoint", "org/bert", "--data", "texts.txt", "--budget", "3x", folder=tmp_path
    )
    assert done.returncode == 0
    done = ortnas("train", "mine.yaml", folder=tmp_path)
    assert done.returncode == 1
    assert "texts.txt" in done.stderr


@pytest.mark.parametrize(
    ("corpus", "message"),
    [("", "corpus.txt: no rows that can be used"), ("only one line\n", "the corpus has 1 distinct sentences")],
)
def test_empty_and_one_line_corpora_get_one_sentence(
    tmp_path: Path, bert_folder: Path, corpus: str, message: str
) -> None:
    (tmp_path / "corpus.txt").write_text(corpus)
    done = ortnas("run", write_run(tmp_path, bert_folder, str(tmp_path / "corpus.txt")))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.strip().splitlines()) == 1


def test_unknown_keys_get_a_suggestion(tmp_path: Path, bert_folder: Path) -> None:
    done = ortnas("run", write_run(tmp_path, bert_folder, "x"), "--set", "training.stepps=3")
    assert done.returncode == 1
    assert "unknown key 'training.stepps'; did you mean 'steps'?" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{folder}/nowhere", "no such folder"),
        ("package:not_there/model", "the Python package not_there is not installed"),
    ],
)
def test_missing_checkpoints_get_one_sentence(
    tmp_path: Path, bert_folder: Path, sentences: list[str], name: str, message: str
) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(sentences))
    run = write_run(tmp_path, bert_folder, str(tmp_path / "corpus.txt"))
    done = ortnas("train", run, "--checkpoint", name.format(folder=tmp_path))
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("stage", ["bench", "fit", "search", "export"])
def test_stages_out_of_order_say_what_to_run_first(
    tmp_path: Path, bert_folder: Path, sentences: list[str], stage: str
) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(sentences))
    done = ortnas(stage, write_run(tmp_path, bert_folder, str(tmp_path / "corpus.txt")))
    assert done.returncode == 1
    assert "ortnas " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_init_takes_files_columns_and_head_from_a_task(tmp_path: Path) -> None:
    done = ortnas("init", "m.yaml", "--checkpoint", "x", "--data", "glue/MNLI", "--task", "MNLI", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load((tmp_path / "m.yaml").read_text())
    assert (document["head"], document["data"]["task"]) == ("classification", "mnli")
    done = ortnas("init", "n.yaml", "--checkpoint", "x", "--data", "glue/MNLI", "--task", "mnlii", folder=tmp_path)
    assert done.returncode == 1
    assert "mnli" in done.stderr


def test_options_of_further_training_need_a_subnet(tmp_path: Path, bert_folder: Path) -> None:
    done = ortnas("train", write_run(tmp_path, bert_folder, "x"), "--quantization-aware")
    assert done.returncode == 2
    assert "--subnet" in done.stderr
