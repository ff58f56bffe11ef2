"""The command line: what it says, where, and with which exit status."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from typer.testing import CliRunner

from ortnas.nas.cli import app
from ortnas.predictors.fitting import load_predictor

LAZY = ("torch", "transformers", "onnxruntime", "onnx", "xgboost", "pydantic", "scipy", "numpy")


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def ortnas(*arguments: str | Path) -> Done:
    """In this process, which has the heavy imports already; a bug shows itself."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    return Done(done.exit_code, done.stdout, done.stderr)


def start(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "ortnas", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nimport ortnas.nas.cli\nsys.argv = ['ortnas', '--help']\n"
        "try:\n    ortnas.nas.cli.app()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {LAZY!r} if name in sys.modules], len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "verify" in done.stdout
    _, heavy, count = done.stdout.splitlines()[-1].split()
    assert heavy == "[]"
    # The two libraries that draw the help are most of what it loads, and with it of the time it takes.
    bare = "import sys, typer, rich.panel, rich.table, rich.markdown; print(len(sys.modules))"
    drawing = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True)
    assert int(count) < 1.25 * int(drawing.stdout)


def test_without_a_command_it_says_in_ten_lines_what_to_do() -> None:
    done = ortnas()
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 11
    for hint in ("ortnas init run.yaml", "ortnas run run.yaml", "ortnas verify", "ortnas --help"):
        assert hint in done.stdout


@pytest.mark.slow
def test_shells_complete_commands_and_options() -> None:
    """As bash asks, through the variables that the installed completion sets."""

    def completed(words: str) -> set[str]:
        asked = {"_ORTNAS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        command = [sys.executable, "-c", "from ortnas.nas.cli import app; app(prog_name='ortnas')"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | asked)
        return set(done.stdout.split())

    assert completed("ortnas se") == {"search", "sensitivity"}
    assert completed("ortnas export --push") == {"--push-to-hub"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "quantize",
        "init",
        "data",
        "train",
        "bench",
        "fit",
        "search",
        "export",
        "extract",
        "sensitivity",
        "inspect",
        "verify",
        "run",
    ],
)
def test_every_verb_explains_itself(command: str) -> None:
    done = ortnas(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout or command == "init"


@pytest.mark.slow
def test_wrong_usage_and_bad_input_have_their_own_status(tmp_path: Path) -> None:
    assert start("serch").returncode == 2
    assert ortnas("run", tmp_path / "none.yaml", "--set", "steps").returncode == 2
    done = start("run", tmp_path / "none.yaml")
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {tmp_path / 'none.yaml'}: no such file; `ortnas init` writes one"


def test_init_writes_what_run_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = ortnas("init", "mine.yaml", "--checkpoint", "org/bert", "--data", "texts.txt", "--budget", "3x")
    assert done.returncode == 0
    done = ortnas("train", "mine.yaml")
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


def test_init_takes_files_columns_and_head_from_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = ortnas("init", "m.yaml", "--checkpoint", "x", "--data", "glue/MNLI", "--task", "MNLI")
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load((tmp_path / "m.yaml").read_text())
    assert (document["head"], document["data"]["task"]) == ("classification", "mnli")
    done = ortnas("init", "n.yaml", "--checkpoint", "x", "--data", "glue/MNLI", "--task", "mnlii")
    assert done.returncode == 1
    assert "mnli" in done.stderr


def test_a_predictor_is_fitted_to_a_run_or_to_a_latency_file(tmp_path: Path) -> None:
    file, out = tmp_path / "latencies é.txt", tmp_path / "mein predictor"
    lines = []
    for hidden, layers in itertools.product(range(128, 640, 32), (2, 4)):
        sizes = f"'sample_layer_num': {layers}, 'sample_hidden_size': {hidden}"
        ffn = f"'sample_intermediate_sizes': {[4 * hidden] * layers}, 'sample_num_attention_heads': {[12] * layers}"
        lines.append(f"{{{sizes}, {ffn}, 'sample_qkv_sizes': {[768] * layers}}}\t{layers * (1 + (hidden / 200) ** 2)}")
    file.write_text("\n".join(lines))
    done = ortnas("fit", "--latencies", file, "--rows", "24", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["rows"], answer["rest"]["measurements"]) == (24, 8)
    assert load_predictor(out).quality.measurements == 24
    for arguments, reason in (
        ((), "give one of the two"),
        (("run.yaml", "--latencies", file), "give one of the two"),
        (("run.yaml", "--rows", "9"), "--rows: goes with --latencies"),
        (("--latencies", file, "--host", "pi"), "--host: goes with"),
    ):
        done = ortnas("fit", *arguments)
        assert done.returncode == 2
        assert reason in " ".join(done.stderr.replace("│", " ").split())
    done = ortnas("fit", "--latencies", tmp_path / "none")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_key_is_given_once(tmp_path: Path, bert_folder: Path) -> None:
    path = write_run(tmp_path, bert_folder, "texts.txt")
    for arguments, message in (
        (("--set", "seed=1", "--set", "seed=2"), "seed is given twice"),
        (("--folder", "x", "--set", "folder=y"), "folder is given twice"),
        (("--set", "training={steps: 1, steps: 2}"), "the key 'steps' occurs twice"),
        (("--set", "seed=[" + "x" * 5000), "(5001 characters) is no YAML value"),
    ):
        done = ortnas("data", path, *arguments)
        assert done.returncode == 2
        assert message in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": "package:../x"}, "write package:NAME/FOLDER"),
        ({"checkpoint": "package:no_such_package.at.all/x"}, "the Python package no_such_package.at.all is not"),
        ({"checkpoint": "package:json.decoder.x"}, "the Python package json.decoder.x is not installed"),
        ({"seed": 2**70}, "seed = 1180591620717411303424"),
        ({"folder": "a\0b"}, "holds a character that is no text"),
        ({"folder": ""}, "folder = '': empty text"),
    ],
)
def test_what_no_run_can_have_is_one_sentence(
    tmp_path: Path, bert_folder: Path, change: dict[str, object], message: str
) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"text number {number}\n" for number in range(400)))
    path = write_run(tmp_path, bert_folder, str(tmp_path / "texts.txt"))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    done = ortnas("train", path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: ")


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.yaml")
    done = ortnas("data", tmp_path / "run.yaml")
    assert (done.returncode, "is no regular file" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "model.onnx", "--threads", "100000"),
        ("inspect", "model.onnx", "--batch", "1000000000"),
        ("inspect", "model.onnx", "--batch", "65536", "--sequence", "65536"),
        ("doctor", "--threads", "100000"),
        ("verify", "package", "--load", "--concurrency", "100000"),
        ("verify", "package", "--load", "--seconds", "inf"),
        ("verify", "package", "--load", "--seconds", "nan"),
        ("sensitivity", "run.yaml", "--tolerance", "nan"),
        ("fit", "--latencies", "file", "--seed", str(2**70)),
        ("fit", "--latencies", "file", "--threads", "100000"),
    ],
)
def test_options_that_nothing_could_use_are_refused(arguments: tuple[str, ...]) -> None:
    done = ortnas(*arguments)
    assert done.returncode == 2
    assert arguments[-2] in done.stderr
