"""Stand-ins for a host's Python: the real one, in which something is amiss."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_FATE = """
import os, signal, time
import onnxruntime
class Session(onnxruntime.InferenceSession):
    def __init__(self, model, *arguments, **options):
        if {digest!r} in str(model):
            {fate}
        super().__init__(model, *arguments, **options)
onnxruntime.InferenceSession = Session
"""
DIES = "os.kill(os.getpid(), signal.SIGKILL)"
HANGS = "time.sleep(3600)"


def write_python(folder: Path, preamble: str = "", options: str = "", **environment: str) -> str:
    """The path of a program that runs ``-c CODE`` as this Python does, after some code and in some environment."""
    program, script = folder / "python", folder / "preamble.py"
    script.write_text(f"import sys\n{preamble}\nexec(sys.argv[1])\n")
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    command = f"{shlex.quote(sys.executable)} {options} {shlex.quote(str(script))}"
    program.write_text(f'#!/bin/sh\nexec env {variables} {command} "$2"\n')
    program.chmod(0o755)
    return str(program)


def when_opened(model: bytes, fate: str) -> str:
    """Code that has a worker do something else when it opens a model."""
    return _FATE.format(digest=hashlib.sha256(model).hexdigest(), fate=fate)


def old_python() -> str:
    """A real interpreter that is too old for the worker; skips the test where this machine has none."""
    names = [f"python{version}" for version in ("3.9", "3.8", "3.7", "3.6")]
    paths = [path for name in names if (path := shutil.which(name))]
    paths += map(str, sorted(Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python")))
    for path in paths:  # the names may be stand-ins that know of no such version
        if subprocess.run([path, "-c", "pass"], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip("needs a Python from 3.6 to 3.9 beside this one")
