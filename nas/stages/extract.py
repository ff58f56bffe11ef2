"""Subnets as plain transformers checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ortnas.export.extraction import extract
from ortnas.export.weights import read_supernet
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.run.run import Run
from ortnas.nas.stages.courses import recorded
from ortnas.nas.stages.find_subnet import find_subnet
from ortnas.nas.stages.further_training import refined_folder


def extract_subnet(run: Run, name: str, folder: Path) -> dict[str, Any]:
    """Writes a subnet as a transformers checkpoint: trained further where it was, else as in the supernet."""
    subnet = find_subnet(run, name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"--out {folder}: exists and is not empty")
    # Training with the quantizer's rounding makes weights for the quantized network, not for a float checkpoint.
    candidates = [refined_folder(run, subnet, False), run.supernet_folder]
    source = next(path for path in candidates if path == run.supernet_folder or recorded(path, "inputs"))
    supernet = read_supernet(source)
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    extract(supernet, subnet, staging, run.max_length)
    if folder.exists():
        folder.rmdir()
    staging.rename(folder)
    run.console.say(subnet.describe())
    run.console.say(f"from {source}")
    run.console.say(f"to {folder}: transformers.AutoModel.from_pretrained({str(folder)!r})")
    return {"subnet_key": subnet.key, "source": str(source), "folder": str(folder)}
