"""A small trained run on the simulated host, opened with changes of its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import check_configuration
from ortnas.nas.run.run import Run


def open_run(folder: Path, **changes: dict[str, Any]) -> Run:
    document = yaml.safe_load((folder / "run.yaml").read_text())
    for section, keys in changes.items():
        document[section] |= keys
    return Run(check_configuration(document, "test"), Console(to_stderr=True))
