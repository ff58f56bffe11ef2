"""Subnets as plain transformers checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ortnas.export.extraction import extract
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.find_subnet import find_subnet
from ortnas.nas.stages.further_training import trained_weights


def extract_subnet(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    name: str,
    folder: Path,
) -> dict[str, Any]:
    """Writes a subnet as a transformers checkpoint: trained further where it was, else as in the supernet."""
    subnet = find_subnet(configuration, run_folder, run_models, name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"--out {folder}: exists and is not empty")
    # Training with the quantizer's rounding makes weights for the quantized network, not for a float checkpoint.
    source = trained_weights(run_folder, subnet) or run_folder.supernet
    supernet = read_supernet(source)
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    extract(supernet, subnet, staging, texts.max_length)
    if folder.exists():
        folder.rmdir()
    staging.rename(folder)
    console.say(subnet.describe())
    console.say(f"from {source}")
    auto_class = HEADS[supernet.dimensions.head].auto_class
    console.say(f"to {folder}: transformers.{auto_class}.from_pretrained({str(folder)!r})")
    return {"subnet_key": subnet.key, "source": str(source), "folder": str(folder)}
