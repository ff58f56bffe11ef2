"""Commands in the process of the tests, which has the heavy imports already, and packages in processes of their own.

A command opens its run anew and keeps nothing for the next one, so a process for each would only import again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from ortnas.nas.cli import app


def invoke(*arguments: str | Path) -> Result:
    """A bug shows itself."""
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def ortnas(*arguments: str | Path) -> str:
    """All that the command says, in one line."""
    done = invoke(*arguments)
    assert done.exit_code == 0, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def refusal(*arguments: str | Path) -> str:
    """The error of a command that fails, as it is printed."""
    done = invoke(*arguments)
    assert done.exit_code == 1, done.stderr
    return done.stderr


def answer(*arguments: str | Path) -> Any:
    """What the command answers with ``--json``."""
    done = invoke(*arguments, "--json")
    # A busy machine may not be able to tell whether a package keeps its budget.
    assert done.exit_code in ((0, 3) if arguments[0] == "verify" else (0,)), done.stderr
    return json.loads(done.stdout)


def assert_intact(package: Path) -> None:
    """``ortnas verify`` passes, but for latency: a fraction of a millisecond on a busy machine says nothing."""
    checks = json.loads(invoke("verify", package, "--json").stdout)
    states = {check["name"]: check["state"] for check in checks}
    assert (states["checksums"], states["load"], states["score"]) == ("pass", "pass", "pass")


def predictions(package: Path, *texts: str) -> list[dict[str, Any]]:
    """What the package's own ``predict.py`` prints, a record a text."""
    command = [sys.executable, str(package / "predict.py"), *texts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def extract_one_layer(configuration: Path, out: Path) -> None:
    """The second layer of BERT-tiny, its FFN halved, as transformers saves it."""
    layers = [{"source": 1, "num_heads": 2, "head_size": 64, "ffn_size": 256}]
    subnet = configuration.parent / "subnet.json"
    subnet.write_text(json.dumps({"hidden_size": 128, "layers": layers}))
    ortnas("extract", configuration, "--subnet", subnet, "--out", out)
