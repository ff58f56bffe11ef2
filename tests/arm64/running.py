"""Models of random networks, run by another Python than this one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ortnas.bench.session import Setup

ROOT = Path(__file__).parents[2]
# Sessions are opened as the timing worker opens them; outputs that are asked for are written one after the other.
_SCRIPT = """
import json, sys
from pathlib import Path
root, folder, setup = sys.argv[1:]
sys.path.insert(0, root)
import numpy as np
from bench.session import Setup, make_session
feeds = dict(np.load(Path(folder, "feeds.npz")))
outputs = {}
for path in sorted(Path(folder).glob("*.onnx")):
    session = make_session(path, Setup.from_json(json.loads(setup)))
    asked = {item.name: feeds[item.name] for item in session.get_inputs()}
    outputs[path.stem] = session.run(None, asked)[0]
np.savez(Path(folder, "outputs.npz"), **outputs)
"""


def outputs_on(
    python: str, folder: Path, models: Mapping[str, bytes], feeds: Mapping[str, np.ndarray], setup: Setup | None = None
) -> dict[str, np.ndarray]:
    """The first output of every model."""
    folder.mkdir()
    np.savez(folder / "feeds.npz", **feeds)  # type: ignore[arg-type]
    for name, model in models.items():
        (folder / f"{name}.onnx").write_bytes(model)
    command = [python, "-c", _SCRIPT, str(ROOT), str(folder), json.dumps((setup or Setup()).to_json())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "outputs.npz") as outputs:
        return dict(outputs)
