"""Stand-ins for a host's Python: the real one, in which something is amiss."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

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
